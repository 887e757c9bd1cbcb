# SPDX-License-Identifier: Apache-2.0
"""A whole device in a folder with fake watchdogs: the real guard, preloaded with fakedog.c; boots are made by a new boot id and an empty /run."""

import contextlib
import os
import shutil
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "guard_monitor"))

from monitor_box import Box, image, until

from edgeheal.detect.reset import judge
from edgeheal.wire import boot_facts
from edgeheal.wire import guard_frames as f

KEEPALIVEPING, MAGICCLOSE, SETTIMEOUT, PRETIMEOUT, CARDRESET = 0x8000, 0x0100, 0x0080, 0x0200, 0x0020
SOFTDOG = KEEPALIVEPING | MAGICCLOSE | SETTIMEOUT
TELLING = SOFTDOG | CARDRESET | PRETIMEOUT


@contextlib.contextmanager
def preloaded(library, folder):
    """What is started meanwhile sees the fake watchdogs and the boot id of `folder`."""
    os.environ |= {"LD_PRELOAD": str(library), "FAKEDOG": str(folder)}
    try:
        yield
    finally:
        del os.environ["LD_PRELOAD"], os.environ["FAKEDOG"]


class Dog:
    """One fake watchdog, as the test sees it."""

    def __init__(self, folder, name, *, options=SOFTDOG, least=1, most=65_535, timeout=60, nowayout=0, bootstatus=0, sysfs=True, identity="fakedog"):
        self.folder, self.name = folder, name
        self.conf = {"options": options, "least": least, "most": most, "timeout": timeout, "nowayout": nowayout, "bootstatus": bootstatus, "identity": identity}
        self.sysfs = sysfs
        self.log_path = folder / f"{name}.log"
        self.set()

    @property
    def path(self):
        return f"/dev/{self.name}"

    def set(self, **words):
        self.conf |= words
        c = self.conf
        line = f"{c['options']:#x} {c['least']} {c['most']} {c['timeout']} {c['nowayout']} {c['bootstatus']:#x} {c['identity']}\n"
        (self.folder / f"{self.name}.conf").write_text(line)
        if self.sysfs:
            there = self.folder / "sys" / self.name
            there.mkdir(parents=True, exist_ok=True)
            said = {"min_timeout": c["least"], "max_timeout": c["most"], "nowayout": c["nowayout"], "bootstatus": c["bootstatus"], "identity": c["identity"]}
            for word, value in said.items():
                (there / word).write_text(f"{value}\n")
            if not (there / "state").exists():
                (there / "state").write_text("inactive\n")

    def log(self):
        """(ms, word, number) of each event."""
        if not self.log_path.exists():
            return []
        return [(int(t), w, int(n)) for t, w, n in (line.split() for line in self.log_path.read_text().splitlines())]

    def words(self):
        return [word for _, word, _ in self.log()]

    def armed(self):
        """Whether it runs on: the last close did not stop it, or there was none."""
        return not ("close" in self.words() and next(n for _, w, n in reversed(self.log()) if w == "close") == 0)

    def gaps(self):
        """Milliseconds between feeds, from the opening on."""
        fed = [t for t, w, _ in self.log() if w in {"start", "feed", "set", "magic"}]
        return [b - a for a, b in zip(fed, fed[1:], strict=False)]


class DogBox(Box):
    """One device below `folder`."""

    def __init__(self, folder, library, *, dogs=None, more="", timeout="30s", watchdog="", **words):
        self.library = library
        self.fake = folder / "fake"
        (self.fake / "sys").mkdir(parents=True)
        self.dogs = [Dog(self.fake, f"watchdog{n}", **said) for n, said in enumerate(dogs or [])]
        table = ""
        if self.dogs:
            also = ", ".join(f'"{dog.path}"' for dog in self.dogs[1:])
            table = f'[watchdog]\ndevice = "{self.dogs[0].path}"\ntimeout = "{timeout}"\nalso = [{also}]\n{watchdog}\n'
        self.pstore = folder / "pstore"
        self.pstore.mkdir()
        self.register = folder / "register"
        self.tables = f'{table}[boot]\npstore = ["{self.pstore}"]\n{more}'
        self.new_boot_id()
        super().__init__(folder, more=self.tables, **words)

    def new_boot_id(self):
        (self.fake / "boot_id").write_text(f"{uuid.uuid4()}\n")

    def start(self):
        with preloaded(self.library, self.fake):
            return super().start()

    def boot(self):
        """The box comes back: another boot id, nothing left in /run or of the processes."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.sweep()
        shutil.rmtree(self.layout.run, ignore_errors=True)
        self.new_boot_id()
        return self.start()

    def cut(self):
        """The power goes, and comes back."""
        self.kill()
        return self.boot()

    def term(self, word=""):
        """SIGTERM, as a manager does; `word`: what the init said it is about to do."""
        if word:
            (Path(self.layout.run) / "shutdown").write_text(f"{word}\n")
        self.process.terminate()
        self.process.wait(10)

    def why(self):
        """The boot's facts, as the guard gives them to whoever asks."""
        return boot_facts.of_rows(self.ask(f.WHY).rows)

    def verdict(self):
        return judge(self.why().facts)


__all__ = ["SOFTDOG", "TELLING", "Dog", "DogBox", "image", "preloaded", "until"]
