# SPDX-License-Identifier: Apache-2.0
"""A device in a folder for each test; the workshop itself is workshop.py."""

import pytest
from workshop import Device


@pytest.fixture
def device(tmp_path):
    return Device(tmp_path)
