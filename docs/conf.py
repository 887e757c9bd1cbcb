# SPDX-License-Identifier: Apache-2.0
"""Sphinx: MyST Markdown, no theme from outside; the generated reference is made anew at each build."""

import os
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TOP, os.path.join(TOP, "docs")]

project = "EdgeHeal"
author = "the EdgeHeal authors"
copyright = "the EdgeHeal authors, Apache-2.0"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist", "colon_fence", "tasklist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
html_theme = "alabaster"
html_theme_options = {"description": "keeps the applications of an unattended gateway alive", "page_width": "1100px", "fixed_sidebar": "true"}
html_show_sourcelink = False
smartquotes = False


def setup(app):
    """Make the generated pages before anything is read."""
    import generate

    app.connect("builder-inited", lambda _app: generate.write_all(os.path.join(TOP, "docs", "reference", "generated")))
