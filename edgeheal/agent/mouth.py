# SPDX-License-Identifier: Apache-2.0
"""The agent's mouth: the MQTT link, told what to say of this device at birth and with each heartbeat.

Duty: join config, guard and memory into births and heartbeats; hand what comes down to the tools. Loaded only where a broker is
configured, since paho is most of the agent's memory.
"""

import time
from typing import TYPE_CHECKING

from edgeheal.adapters.mqtt.link import MqttLink
from edgeheal.adapters.mqtt.settings import LinkSettings
from edgeheal.config.policy import mode_of
from edgeheal.config.schema import Config
from edgeheal.core.deployment import EMPTY
from edgeheal.core.digest import sha256
from edgeheal.core.now import NS
from edgeheal.core.version import VERSION
from edgeheal.wire.birth import AppBirth, Birth
from edgeheal.wire.health import Health

if TYPE_CHECKING:
    from edgeheal.agent.assembly import Agent

CAPABILITIES = ("commands", "rollback", "recordings")


def settings_of(config: Config) -> LinkSettings:
    """The link's settings out of `[device]` and `[link]`."""
    link = config.link
    return LinkSettings(
        host=link.host, tenant=config.device.tenant, device=config.device.id, port=link.port, tls=link.tls, ca=link.ca, cert=link.cert, key=link.key,
        user=link.user, password_file=link.password_file, version=link.version, heartbeat_s=link.heartbeat_s, keep_alive_s=link.keep_alive_s,
        encoding=link.encoding, stored_by=link.stored_by,
    )  # fmt: skip


def hardware_id() -> bytes:
    """Tells twins apart: a hash of the machine id and the network cards' addresses, never the values themselves."""
    digest = sha256()
    for path in ("/etc/machine-id", "/sys/class/dmi/id/product_uuid", "/proc/device-tree/serial-number", "/sys/class/net/eth0/address"):
        try:
            with open(path, "rb") as file:
                digest.update(file.read(256))
        except OSError:
            continue
    return digest.digest()[:8]


def link_of(agent: "Agent", config: Config) -> MqttLink:
    """The link of this agent."""
    settings = settings_of(config)
    hardware = hardware_id()

    def birth() -> Birth:
        depth, dropped = agent.spool.depth()
        now = agent.clock.now()
        state = agent.brain.state
        apps = tuple(
            AppBirth(name, next((d.version for d in app.deployments if d.running), ""), app.image, app.image_state if app.image else EMPTY)
            for name, app in sorted(state.apps.items())
        )
        return Birth(
            session=agent.session, boots=agent.why.boot.count, nonce=agent.why.nonce, reset_reason=agent.tools.boot_reason, agent=VERSION,
            config=config_id(agent), policy=state.policy.version, capabilities=CAPABILITIES, classes=config.device.classes, watchdog_s=agent.why.boot.watchdog_s,
            boundary=agent.tools.boundary, mode=mode_of(agent.config.mode), spool_depth=depth, spool_dropped=dropped, place=config.device.place,
            hardware=hardware, apps=apps, at_s=now.wall_s, up_s=(now.mono_ns - agent.started_ns) // NS, stored_by=config.link.stored_by,
        )  # fmt: skip

    def health() -> Health:
        depth, dropped = agent.spool.depth()
        return Health(
            agent.session, progress=agent.loop.turns, up_s=(time.monotonic_ns() - agent.started_ns) // NS, spool_depth=depth, spool_dropped=dropped,
            open_incidents=len(agent.brain.state.cases), every_s=config.link.heartbeat_s,
        )  # fmt: skip

    return MqttLink(
        settings, session=agent.session, spool=agent.spool, blocking=agent.workers, emit=agent.brain.hear, birth=birth, health=health,
        on_down=agent.tools.word_came,
    )  # fmt: skip


def config_id(agent: "Agent") -> str:
    """A short name for the config in force: the same texts give the same name."""
    digest = sha256()
    for text in agent.force.loaded.texts:
        digest.update(repr(text).encode())
    return digest.hexdigest()[:8]
