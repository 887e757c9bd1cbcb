# SPDX-License-Identifier: Apache-2.0
"""Values on this device that are secret: looked up, so that they can be searched in whatever leaves the box.

Duty: for the support archive and for the agent's masks: read config, keys, password files, environments, apps' configs and secrets, as far as the caller may; give their values. They are kept nowhere.
Invariants: what cannot be read is passed over (then it cannot be in what we read either, but for what an app printed: shapes are masked as well);
files in an app's folder are opened without following links, without waiting, and only when they are plain and small.
"""

import os
import stat
from collections.abc import Iterable, Iterator

from edgeheal.core.errors import EdgeHealError
from edgeheal.core.layout import Layout
from edgeheal.core.mask import said_secrets, secret_name

MOST = 262_144
ENTRIES_MOST = 1_000


def values(layout: Layout, password_file: str, apps: Iterable[str] = (), pids: Iterable[int] = ()) -> set[str]:
    """Every value that is known to be secret here. `apps`: whose configs and secrets are read, too; `pids`: whose environments."""
    found: set[str] = set()
    apps = tuple(apps)
    for path in _texts(layout, apps):
        found |= said_secrets(_read(path))
    for path in (password_file, *_files(layout.keys)):
        text = _read(path)
        found |= (
            {text.strip()} | {line for line in text.splitlines() if len(line) >= 16 and not line.startswith("-----")}
            if path and _private(path, text)
            else set()
        )
    for app in apps:
        found |= {text for path in _files(f"{layout.app_data(app)}/secret") if (text := _read(path).strip())}
    for env in (dict(os.environ), *_images(layout), *(environment(pid) for pid in pids)):
        found |= {value for name, value in env.items() if secret_name(name)} | said_secrets("\n".join(env.values()))
    return {value for value in found if value}


def _private(path: str, text: str) -> bool:
    return "CERTIFICATE" not in text and not path.endswith(".pub")


def _texts(layout: Layout, apps: tuple[str, ...]) -> Iterator[str]:
    """Configs: the device's own, and what each app reads."""
    yield from _files(layout.vendor_config)
    yield from _files(layout.etc)
    yield from _files(layout.config_dropins)
    for app in apps:
        for generation in _names(layout.app_data(app)):
            yield from _files(f"{layout.app_data(app)}/{generation}")


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))[:ENTRIES_MOST]
    except OSError:
        return []


def _files(folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in _names(folder)]


def _read(path: str) -> str:
    """A plain, small file's text; "" for anything else."""
    if not path:
        return ""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, MOST).decode("utf-8", "backslashreplace") if stat.S_ISREG(os.fstat(fd).st_mode) else ""
    except OSError:
        return ""
    finally:
        os.close(fd)


def environment(pid: int) -> dict[str, str]:
    """A process's environment, as far as we may look."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            lines = file.read(MOST).decode("utf-8", "backslashreplace").split("\0")
    except OSError:
        return {}
    return dict(line.partition("=")[::2] for line in lines if "=" in line)


def _images(layout: Layout) -> Iterator[dict[str, str]]:
    """The environment that each installed image asks for."""
    from edgeheal.image import manifest
    from edgeheal.trust import envelope

    for app in _names(layout.store):
        for image in _names(f"{layout.store}/{app}"):
            try:
                with open(f"{layout.tree(app, image)}/manifest", "rb") as file:
                    said = manifest.decode(envelope.decode(file.read(MOST), envelope.MANIFEST).body)
            except (OSError, EdgeHealError):
                continue
            yield dict(said.run.env)
