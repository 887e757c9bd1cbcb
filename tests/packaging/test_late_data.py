# SPDX-License-Identifier: Apache-2.0
"""A data partition that is late or missing is waited for: a guard never begins on an empty mount point."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "packaging/systemd/wait-for-data"


def run(tmp_path, fstab, mounts, wait="0"):
    (tmp_path / "fstab").write_text(fstab)
    (tmp_path / "mounts").write_text(mounts)
    env = os.environ | {"EDGEHEAL_FSTAB": str(tmp_path / "fstab"), "EDGEHEAL_MOUNTS": str(tmp_path / "mounts"), "EDGEHEAL_WAIT_S": wait}
    return subprocess.Popen([str(SCRIPT)], env=env, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("fstab", "mounts", "goes"), [
    ("/dev/a / ext4 defaults 0 1\n", "/dev/a / ext4 rw 0 0\n", True),
    ("/dev/b /var/lib/edgeheal ext4 nofail 0 2\n", "/dev/a / ext4 rw 0 0\n", False),
    ("/dev/b /var/lib/edgeheal ext4 nofail 0 2\n", "/dev/b /var/lib/edgeheal ext4 rw 0 0\n", True),
    ("/dev/b /var ext4 nofail 0 2\n", "/dev/a / ext4 rw 0 0\n", False),
    ("/dev/b /var ext4 nofail 0 2\n/dev/c /var/lib/edgeheal ext4 nofail 0 2\n", "/dev/b /var ext4 rw 0 0\n", False),
    ("#/dev/b /var ext4 nofail 0 2\n/dev/c /var/lib/edgehealth ext4 nofail 0 2\n", "", True),
])  # fmt: skip
def test_only_what_fstab_puts_there_is_waited_for(tmp_path, fstab, mounts, goes):
    process = run(tmp_path, fstab, mounts)
    said = process.communicate(timeout=30)[1]
    assert (process.returncode == 0) is goes
    assert goes or "[no-data]" in said


def test_it_goes_on_as_soon_as_the_partition_is_there(tmp_path):
    process = run(tmp_path, "/dev/b /var/lib/edgeheal ext4 nofail 0 2\n", "", wait="20")
    (tmp_path / "mounts").write_text("/dev/b /var/lib/edgeheal ext4 rw 0 0\n")
    assert process.wait(30) == 0
    process.stderr.close()
