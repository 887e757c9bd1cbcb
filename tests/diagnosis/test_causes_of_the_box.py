# SPDX-License-Identifier: Apache-2.0
"""What the box, its kernel and an app's last sample say of the cause."""

import errno

import pytest

from edgeheal.core import reasons
from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import CauseKind, Channel, EvidenceCode, SymptomKind
from edgeheal.core.symptom import Symptom
from edgeheal.diagnose.rank import rank
from edgeheal.diagnose.scene import HostScene, Scene

C, S, E = CauseKind, SymptomKind, EvidenceCode


def scene(kind, subject="", detail="", evidence=(), **more) -> Scene:
    symptom = Symptom(kind, "a", subject, channel=Channel.KERNEL, detail=detail, evidence=evidence)
    return Scene(symptom, (symptom,), **more)


def kernel(word):
    return scene(S.KERNEL_FAULT, "x", evidence=(Evidence(E.LINE, 3, 3, word),))


def itself(part, what, number=0):
    return scene(S.AGENT_SELF, part, what, (Evidence(E.REASON, number, 0, what),))


CASES = {
    "late and on the processor": (scene(S.HANG, cpu_permille=990), C.APP_BUSY),
    "late and idle": (scene(S.HANG, cpu_permille=0), C.APP_HANG),
    "late, and it waits in the kernel": (scene(S.HANG, cpu_permille=0, wait_d="jbd2_log_wait_commit"), C.DEVICE_IO),
    "late beside a mount that answers nobody": (scene(S.PROBE_FAILED, wait_d="fuse", host=HostScene(mount_silent="far")), C.DEVICE_IO),
    "ended with all its descriptors": (scene(S.EXIT, exit_code=1, fds=62, fds_limit=64, fds_share=1.1), C.APP_DESCRIPTORS),
    "ended with half of them": (scene(S.EXIT, exit_code=1, fds=32, fds_limit=64, fds_share=0.5), C.APP_CRASH),
    "killed over its memory limit": (scene(S.EXIT, exit_signal=9, memory_kib=70_000, memory_limit_kib=65_536), C.APP_MEMORY),
    "killed far below it": (scene(S.EXIT, exit_signal=9, memory_kib=20_000, memory_limit_kib=65_536), C.APP_CRASH),
    "a sensor on a port that resets": (scene(S.SENSOR_MISSING, "t", alive=True, alive_by=2, host=HostScene(bus="1-1.2")), C.BUS),
    "tasks wait for minutes": (kernel("hung_task"), C.DEVICE_IO),
    "a network chip is stuck": (kernel("nic_timeout"), C.BUS),
    "a processor is stuck": (kernel("lockup"), C.KERNEL),
    "ended just after the kernel's own fault": (scene(S.EXIT, exit_signal=11, host=HostScene(kernel_s=1.0)), C.KERNEL),
    "ended long after it": (scene(S.EXIT, exit_signal=11, host=HostScene(kernel_s=900.0)), C.APP_CRASH),
    "fails on a box without pids": (scene(S.EXIT, exit_code=1, host=HostScene(scarce="pids")), C.HOST_LOAD),
    "cannot start: no more processes": (scene(S.START_FAILED, start_reason=reasons.START_FAILED, start_errno=errno.EAGAIN), C.HOST_LOAD),
    "cannot start: the medium": (scene(S.START_FAILED, start_reason=reasons.START_FAILED, start_errno=errno.EIO), C.DISK_FAULT),
    "cannot start: no such program": (scene(S.START_FAILED, start_reason=reasons.START_FAILED, start_errno=errno.ENOENT), C.APP_IMAGE),
    "held since its image is rotten": (scene(S.APP_HELD, start_reason=reasons.ROT), C.DISK_FAULT),
    "held since nobody trusts its image": (scene(S.APP_HELD, start_reason=reasons.REVOKED), C.TRUST),
    "ended just after the clock was set by an hour": (scene(S.EXIT, exit_code=1, host=HostScene(stepped_s=2.0, step_s=3_600.0)), C.CLOCK),
    "ended just after the clock was set by a second": (scene(S.EXIT, exit_code=1, host=HostScene(stepped_s=2.0, step_s=2.0)), C.APP_CRASH),
    "our journal has no room": (itself("journal", "unwritable", errno.ENOSPC), C.DISK_FULL),
    "our journal's medium is read-only": (itself("journal", "unwritable", errno.EROFS), C.DISK_FAULT),
    "our medium does not answer": (itself("medium", "slow", 9_000), C.DEVICE_IO),
    "our loop is slow": (itself("agent", "slow", 2_000), C.AGENT),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_first_cause_is_right(name):
    given, expected = CASES[name]
    causes = rank(given)
    assert causes[0].kind is expected, [(c.kind.name, c.probability) for c in causes]


def test_who_has_most_of_what_is_scarce_is_named():
    causes = rank(scene(S.HOST_FDS, greediest="uplink"))
    assert (causes[0].kind, causes[0].subject) == (C.APP_DESCRIPTORS, "uplink")


def test_fc_log_1_descriptors_at_the_end_beat_what_the_log_said_first():
    words = "resolve example.test failed: temporary failure in name resolution"
    given = scene(S.EXIT, exit_code=1, fds=64, fds_limit=64, fds_share=1.0, log_error=words, needs_network=True)
    causes = rank(given)
    assert causes[0].kind is C.APP_DESCRIPTORS
    assert (causes[0].evidence[0].code, causes[0].evidence[0].value, causes[0].evidence[0].limit) == (E.DESCRIPTORS, 64, 64)
    assert C.NETWORK not in {c.kind for c in causes}
    down = rank(scene(S.EXIT, exit_code=1, log_error=words, needs_network=True, host=HostScene(network_down="dns", network_down_s=9)))
    assert down[0].kind is C.NETWORK, "when our own look-up fails, too, it is the network"
