# SPDX-License-Identifier: Apache-2.0
"""Make the recordings of this folder anew: a whole device (the demo's), broken for real, and what it kept of each incident.

`python tests/scenarios/record.py` takes a minute. When: the engine decides differently on purpose, so that `test_scenarios.py` says where.
"""

import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from edgeheal.journal import recording
from edgeheal.lab import demo, scenes
from edgeheal.lab.stage import Stage, until

SCENES = ("kill", "stuck-sensor", "bad-config", "bad-upgrade")


def main() -> int:
    """Play, wait for the files to be finished, copy them."""
    with tempfile.TemporaryDirectory(prefix="scenarios-") as folder, Stage(Path(folder)) as stage:
        play, world = demo.set_stage(stage, print)
        kept = stage.root / "var/lib/edgeheal/agent/recordings"
        try:
            for name in SCENES:
                result = scenes.play_one(name, play)
                if not result.ok:
                    print(f"{name}: {result.note or 'not healed'}", file=sys.stderr)
                    return 1
                demo.settle(play, result)

                def whole(wanted: str = result.incident) -> Path | None:
                    return next((path for path in kept.glob(f"*-{wanted}*.ehr") if recording.finished(path.read_bytes()[-recording.END_BYTES :])), None)

                path = until(whole, 60, f"the recording of {result.incident}", every=0.3)
                shutil.copy(path, HERE / f"{name}.ehr")
                print(f"{name}: {path.stat().st_size} bytes")
        finally:
            play.events.close()
            world.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
