# SPDX-License-Identifier: Apache-2.0
"""An agent whose user cannot run the interpreter: said by name, once; apps run on, and it is tried again for ever."""

import os

import pytest

from tests.guard.conftest import PYTHON, until


@pytest.mark.root
def test_an_agent_that_cannot_be_executed_is_said_with_its_reason(box, monkeypatch):
    if os.geteuid() != 0 or box.plain:
        pytest.skip("needs root and separate uids")
    hidden = box.root / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "python").symlink_to(PYTHON)
    monkeypatch.setitem(type(box).start.__globals__, "PYTHON", str(hidden / "python"))
    box.config("[guard]\nspawn_agent = true")
    box.start()
    said = until(lambda: [line for line in (box.root / "guard.log").read_text().splitlines() if "cannot start the agent" in line])
    assert "Permission denied" in said[0]
    assert str(hidden / "python") in said[0]
