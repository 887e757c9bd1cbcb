# SPDX-License-Identifier: Apache-2.0
"""A device for each test, started; it is ended with everything that ran on it."""

import pytest
from monitor_box import Box


@pytest.fixture
def box(tmp_path):
    with Box(tmp_path) as made:
        yield made.start()
