# SPDX-License-Identifier: Apache-2.0
"""The workshop of images and the box of the guard's tests are used here, too."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / name) for name in ("guard_monitor", "images")]
