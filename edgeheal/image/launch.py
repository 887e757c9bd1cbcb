# SPDX-License-Identifier: Apache-2.0
"""The launch record: what the guard needs to start an app, out of a manifest, so that the guard itself reads no manifest.

Duty: plain values for image.records. It joins nothing with the device. Invariant: at most 64 KiB packed.
"""

from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import ImageError
from edgeheal.image.manifest import Manifest
from edgeheal.image.records import pack

MAX_LAUNCH = 64 * 1024


def record(manifest: Manifest, image: bytes) -> dict[str, Any]:
    """The launch record of image id `image`."""
    run, limits, config, data = manifest.run, manifest.limits, manifest.config, manifest.data
    return {
        "v": 1,
        "app": manifest.app,
        "id": image,
        "version": manifest.version,
        "argv": list(run.argv),
        "env": dict(run.env),
        "cwd": run.cwd,
        "ready": run.ready,
        "start_ms": run.start_ms,
        "stop_signal": run.stop_signal,
        "stop_ms": run.stop_ms,
        "reload": list(run.reload),
        "heartbeat_ms": run.heartbeat_ms,
        "done": list(run.done),
        "worker": run.worker,
        "devices": list(run.devices),
        "network": run.network,
        "limits": {
            "memory_kib": limits.memory_kib,
            "cpu_permille": limits.cpu_permille,
            "tasks": limits.tasks,
            "files": limits.files,
            "log_kib": limits.log_kib,
        },
        "probes": [
            [p.name, p.means, p.kind, p.target if isinstance(p.target, str) else list(p.target), p.every_ms, p.timeout_ms, p.misses] for p in manifest.probes
        ],
        "soak_s": manifest.soak_s,
        "needs": [[n.kind, n.name, n.hard] for n in manifest.needs],
        "security": manifest.security_counter,
        "min_security": manifest.min_security_counter,
        "schema": data.schema if data else 0,
        "config": {"path": config.path, "check": list(config.check), "reload": config.reload} if config else None,
        "data": {"migrate": data.migrate, "back": data.back, "downgrade": data.downgrade} if data else None,
        "digest": manifest.tree_run,
    }


def packed(manifest: Manifest, image: bytes) -> bytes:
    """The record's bytes; ImageError when they do not fit."""
    data = pack(record(manifest, image))
    if len(data) > MAX_LAUNCH:
        raise ImageError(f"launch record of {len(data)} bytes, at most {MAX_LAUNCH}", reason=reasons.BAD_MANIFEST, part="manifest")
    return data
