# SPDX-License-Identifier: Apache-2.0
"""The peers of the images bench, on the same files, in the same folder, by the same runner.

A peer knows how to build, check, install and go back; what it has no plain command for is left out, what cannot be had here says why.
Sources of the commands: each tool's own manual (rauc 1.8, ostree 2022.7, mender-artifact 3.9, casync 2, as in Debian 12).
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Peer:
    """One tool."""

    name = ""
    program = ""

    def __init__(self, folder: Path, files: Path, timed: Callable[[list[str]], Any]) -> None:
        """`timed(words)` runs a command: its seconds and peak memory."""
        self.folder = folder
        self.files = files
        self.timed = timed

    def figures(self, rounds: int, unit: float) -> dict[str, Any]:
        """Ratios to the yardstick, medians; SystemExit says why there are none."""
        if shutil.which(self.program) is None:
            raise SystemExit(f"{self.program} is not installed")
        seen: dict[str, list[float]] = {}
        peak = 0.0
        for number in range(rounds):
            for what, commands in self.steps(number):
                took = [self.timed(words) for words in commands]
                seen.setdefault(what, []).append(sum(one.s for one in took))
                peak = max(peak, *(one.rss_mib for one in took))
        return {**{what: round(statistics.median(all_s) / unit, 2) for what, all_s in seen.items()}, "peak_rss_mib": round(peak, 1)}

    def steps(self, number: int) -> list[tuple[str, list[list[str]]]]:
        """What is timed in a round."""
        raise NotImplementedError(self.name)

    def quiet(self, *words: str) -> None:
        """A step that is not timed."""
        done = subprocess.run(words, capture_output=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(words[:3])} ended with {done.returncode}: {done.stderr.decode()[-120:]}")

    def again(self, *names: str) -> None:
        """Away with what an earlier round made."""
        for name in names:
            there = self.folder / name
            if there.is_dir():
                shutil.rmtree(there)
            else:
                there.unlink(missing_ok=True)


class Rauc(Peer):
    """A plain bundle around a tar.gz. Its installation is a D-Bus service's, and is not run here."""

    name, program = "rauc", "rauc"

    def steps(self, number: int) -> list[tuple[str, list[list[str]]]]:
        cert, key = f"{self.folder}/cert.pem", f"{self.folder}/key.pem"
        if not number:
            self.quiet("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-subj", "/CN=bench", "-days", "30")
        self.again("in", "demo.raucb")
        (self.folder / "in").mkdir()
        (self.folder / "in/manifest.raucm").write_text("[update]\ncompatible=bench\nversion=1\n\n[image.rootfs]\nfilename=app.tar.gz\n")
        packed = ["tar", "czf", f"{self.folder}/in/app.tar.gz", "-C", str(self.files), "."]
        bundle = f"{self.folder}/demo.raucb"
        return [
            ("build_sign", [packed, ["rauc", "bundle", f"--cert={cert}", f"--key={key}", f"{self.folder}/in", bundle]]),
            ("verify_all", [["rauc", "info", f"--keyring={cert}", bundle]]),
        ]


class Ostree(Peer):
    """Commit to an archive repository (unsigned: its signature is the smaller part), pull to a bare one, check out by hard links."""

    name, program = "ostree", "ostree"

    def steps(self, number: int) -> list[tuple[str, list[list[str]]]]:
        self.again("archive", "bare", "out", "old")
        archive, bare = f"--repo={self.folder}/archive", f"--repo={self.folder}/bare"
        self.quiet("ostree", archive, "init", "--mode=archive")
        self.quiet("ostree", bare, "init", "--mode=bare-user")
        commit = ["ostree", archive, "commit", "-b", "app", f"--subject=v{number}", f"--tree=dir={self.files}"]
        return [
            ("build_sign", [commit]),
            ("verify_all", [["ostree", archive, "fsck", "--quiet"]]),
            ("install_durable_reread", [
                ["ostree", bare, "pull-local", f"{self.folder}/archive", "app"], ["ostree", bare, "checkout", "-U", "-H", "app", f"{self.folder}/out"],
            ]),
            ("start_check_full", [["ostree", bare, "fsck", "--quiet"]]),
        ]  # fmt: skip


class Mender(Peer):
    """A module image around a tar, squeezed by its own gzip, signed. Its installation needs its client and server."""

    name, program = "mender", "mender-artifact"

    def steps(self, number: int) -> list[tuple[str, list[list[str]]]]:
        key, public = f"{self.folder}/key.pem", f"{self.folder}/public.pem"
        if not number:
            self.quiet("openssl", "genrsa", "-traditional", "-out", key, "2048")
            self.quiet("openssl", "rsa", "-in", key, "-pubout", "-out", public)
        tar, artifact = f"{self.folder}/app.tar", f"{self.folder}/demo.mender"
        self.again("app.tar", "demo.mender")
        write = ["mender-artifact", "write", "module-image", "-T", "dir", "-n", f"v{number}", "-t", "bench", "-o", artifact, "-f", tar, "-k", key]
        return [
            ("build_sign", [["tar", "cf", tar, "-C", str(self.files), "."], write]),
            ("verify_all", [["mender-artifact", "validate", "-k", public, artifact]]),
        ]


class Casync(Peer):
    """Chunks; unsigned, not durable."""

    name, program = "casync", "casync"

    def steps(self, number: int) -> list[tuple[str, list[list[str]]]]:
        self.again("demo.caidx", "default.castr", "out")
        index = f"{self.folder}/demo.caidx"
        store = f"--store={self.folder}/default.castr"
        return [
            ("build_sign", [["casync", "make", "--without=privileged", store, index, str(self.files)]]),
            ("install_not_durable", [["casync", "extract", "--without=privileged", store, index, f"{self.folder}/out"]]),
        ]


class Swupdate(Peer):
    """Its image is a cpio of a signed description and a tar.gz; built by hand as its manual says."""

    name, program = "swupdate", "swupdate"

    def figures(self, rounds: int, unit: float) -> dict[str, Any]:
        raise SystemExit("swupdate is not installed" if shutil.which("swupdate") is None else "needs a partition of its own to install to")


PEERS = (Rauc, Ostree, Mender, Casync, Swupdate)
