# SPDX-License-Identifier: Apache-2.0
"""A device's folder whose config files a test writes."""

import os

import pytest

from edgeheal.core.layout import Layout


@pytest.fixture
def box(tmp_path):
    layout = Layout(str(tmp_path))
    for folder in (layout.config_dropins, layout.vendor_config, layout.agent):
        os.makedirs(folder)
    return layout


@pytest.fixture
def write(box):
    """Write edgeheal.toml, or a drop-in or vendor file by name; its path."""

    def put(text, name="", *, vendor=False):
        path = f"{box.vendor_config if vendor else box.config_dropins}/{name}" if name else box.config_file
        with open(path, "w") as file:
            file.write(text)
        return path

    return put
