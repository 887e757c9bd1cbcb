# SPDX-License-Identifier: Apache-2.0
"""The scene of a fault: everything that the ranking of causes may look at, gathered once.

Duty: the value. It judges nothing. Ages are seconds, -1 = never or not known.
"""

from dataclasses import dataclass

from edgeheal.core.kinds import ChangeKind, SymptomKind
from edgeheal.core.symptom import Symptom


@dataclass(frozen=True, slots=True)
class HostScene:
    """Conditions of the box that are on, or were lately."""

    undervoltage_s: float = -1.0
    disk_full: str = ""
    disk_fault: str = ""
    memory_low: bool = False
    oom_s: float = -1.0
    pressed: bool = False
    hot: bool = False
    network_down: str = ""  # lowest layer that is down
    network_down_s: float = -1.0
    stood_still_s: float = -1.0
    booted_s: float = -1.0
    mount_silent: str = ""  # a watched mount that answers nobody
    bus: str = ""  # a USB port that resets again and again
    kernel_s: float = -1.0  # the kernel's own fault
    scarce: str = ""  # "descriptors", "pids" when the box has none left
    stepped_s: float = -1.0
    step_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """`symptoms` that are on for the app. `change` the last one and its age. `lived_s` of the run that ended.

    `down_needs`: apps it needs that are not ready. `same_time`: other apps that failed in the same window.
    `late`: its heartbeat is. `alive`: heartbeat, another probe, or readings speak for the app. `log_error`: last error of its log, lower case.
    `exit_signal`, `exit_code` of the last end, -1 = none or not known.
    """

    symptom: Symptom
    symptoms: tuple[Symptom, ...] = ()
    host: HostScene = HostScene()
    change: ChangeKind = ChangeKind.NONE
    change_s: float = -1.0
    config_differs: bool = False
    lived_s: float = -1.0
    exits: int = 0
    exit_code: int = -1
    exit_signal: int = -1
    in_trial: bool = False
    fresh_image: bool = False
    soak_s: int = 86_400
    needs_network: bool = False
    down_needs: tuple[str, ...] = ()
    same_time: tuple[str, ...] = ()
    late: bool = False
    alive: bool = False
    alive_by: int = 0
    siblings_ok: int = 0
    sensors: int = 0
    sensors_bad: int = 0
    log_error: str = ""
    port_holder: str = ""
    stranger: str = ""  # who runs the same program beside us
    restarted_in_vain: bool = False
    fds_full: bool = False
    wchan: str = ""
    line: str = ""  # what is known of the line that a sensor speaks on: missing, held, "" = nothing wrong

    # of the app's last sample and start; of the box: which app has most of what is scarce
    cpu_permille: int = -1
    wait_d: str = ""
    start_reason: int = 0
    start_errno: int = 0
    greediest: str = ""
    fds: int = -1
    fds_limit: int = -1
    fds_share: float = -1.0
    memory_kib: int = -1
    memory_limit_kib: int = -1

    def has(self, kind: SymptomKind) -> bool:
        """Whether this symptom is on."""
        return any(s.kind is kind for s in self.symptoms)
