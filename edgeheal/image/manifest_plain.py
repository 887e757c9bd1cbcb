# SPDX-License-Identifier: Apache-2.0
"""The manifest as a plain table: the other direction of image.manifest.

Duty: one table for one manifest. Invariants: a field at its default is left out (one meaning, one form from our builder), and
`from_plain(to_plain(m)) == m`.
"""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeheal.image.manifest import Manifest, Metric, Probe, Run


def to_plain(manifest: "Manifest") -> dict[str, Any]:
    """The table that is packed and signed."""
    tree = manifest.tree
    plain: dict[str, Any] = {
        "v": 1,
        "app": manifest.app,
        "version": manifest.version,
        "security_counter": manifest.security_counter,
        "device": list(manifest.device),
        "tree": [tree.digest, tree.size_bytes, tree.rows, tree.total_bytes],
        "run": run_plain(manifest.run),
        "soak_s": manifest.soak_s,
    }
    optional = {
        "min_security_counter": manifest.min_security_counter,
        "limits": _said(manifest.limits),
        "probes": [_probe(probe) for probe in manifest.probes],
        "metrics": [_metric(metric) for metric in manifest.metrics],
        "needs": [{need.kind: need.name, "hard": need.hard} for need in manifest.needs],
        "about": dict(manifest.about),
    }
    plain |= {name: value for name, value in optional.items() if value}
    if manifest.config is not None:
        plain["config"] = _said(manifest.config, needed=("path",))
    if manifest.data is not None:
        plain["data"] = _said(manifest.data, needed=("schema", "downgrade"))
    return plain


def run_plain(run: "Run") -> dict[str, Any]:
    """The run table. A field at its default is left out, so that a field added later changes no digest of what ran before."""
    plain = _said(run, needed=("argv",))
    if "env" in plain:
        plain["env"] = dict(run.env)
    if "reload" in plain:
        kind = run.reload[0]
        plain["reload"] = "none" if kind == "none" else run.reload[1] if kind == "signal" else list(run.reload[1:])
    return plain


def _probe(probe: "Probe") -> dict[str, Any]:
    return _said(probe, needed=("name", "means", "kind"))


def _metric(metric: "Metric") -> dict[str, Any]:
    plain = _said(metric, needed=("name",))
    return plain | {name: value for name, value in (("min", metric.min), ("max", metric.max)) if value is not None}


def _said(value: Any, needed: tuple[str, ...] = ()) -> dict[str, Any]:
    """Fields that differ from their default, or are needed; tuples as lists."""
    plain: dict[str, Any] = {}
    for f in fields(value):
        said = getattr(value, f.name)
        if f.name in needed or said != f.default:
            plain[f.name] = list(said) if isinstance(said, tuple) else said
    return plain
