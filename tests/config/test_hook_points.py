# SPDX-License-Identifier: Apache-2.0
"""A remedy that needs a hook is offered where somebody has put one, and nowhere else."""

import os

import pytest

from edgeheal.config.hook_points import hook_points
from edgeheal.config.policy import policy_of
from edgeheal.config.schema import Config
from edgeheal.core import reasons
from edgeheal.core.kinds import RemedyKind
from edgeheal.core.policy import Policy
from edgeheal.recover.ladder import Stand, hinders


@pytest.fixture
def put(box):
    def put(path, mode=0o755):
        full = f"{box.hooks}/{path}"
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w") as file:
            file.write("#!/bin/sh\n")
        os.chmod(full, mode)

    return put


def test_a_power_cycle_is_offered_once_its_hook_is_there(box, put):
    def offered():
        policy = Policy.from_plain(policy_of(Config(), hooks=hook_points(box.hooks)).to_plain())
        return hinders(RemedyKind.POWER_CYCLE, Stand(None, None, policy)) == reasons.OK

    assert not offered()
    put("power-cycle.d/10-usb", 0o644)
    assert not offered(), "nothing there can run"
    put("power-cycle.d/20-usb")
    assert offered()


def test_what_is_no_point_is_none(box, put):
    put("power-cycle.targets")
    put("Odd Name.d/10-x")
    put("interlock.d/deep/10-x")
    assert hook_points(box.hooks) == ()
    assert hook_points("/nowhere") == ()
