# SPDX-License-Identifier: Apache-2.0
"""Import, try, soak, good, rollback, blocked: an image's life under the real guard."""

from monitor_box import image, until

from edgeheal.core import reasons
from edgeheal.core.deployment import BAD, GOOD, TRIAL, WRITTEN
from edgeheal.wire import guard_frames as f


def test_an_image_is_imported_tried_and_runs_as_trial(box):
    one = image("1.0")
    assert box.install(one, try_it=False) == 0
    assert box.state(one) == WRITTEN
    assert box.runs() == []
    assert box.ask(f.TRY, app="demo", image=one.id).reason == 0
    assert box.state(one) == TRIAL
    run = until(box.runs, 10, "a run")[0]
    assert run["EDGEHEAL_IMAGE"] == one.id.hex()
