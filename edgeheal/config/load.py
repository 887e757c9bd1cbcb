# SPDX-License-Identifier: Apache-2.0
"""Load a device's config: layered files in, a frozen `Config` with the origin of each value out, or every problem at once.

Duty: vendor < etc < conf.d, later files win key by key. Reads files; writes none (`config.last_good` does).
Invariants: a config with a problem is no config (`Loaded.config` is None); all problems are listed, in order of place; what
is said twice in one file is refused, in two files the later one wins.
"""

from dataclasses import dataclass, field

from edgeheal.config.decode import Origin, decode
from edgeheal.config.files import Text, read_layers
from edgeheal.config.problem import Problem
from edgeheal.config.schema import Config
from edgeheal.core.errors import ConfigError
from edgeheal.core.layout import Layout

__all__ = ["Loaded", "Origin", "Problem", "load", "load_texts"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files say. `origins`: dotted key -> where it was said; a key that is not there has its default."""

    config: Config | None
    origins: dict[str, Origin] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    texts: tuple[Text, ...] = ()

    def require(self) -> Config:
        """The config, or ConfigError with the first problem and how many more there are."""
        if self.config is not None:
            return self.config
        raise error_of(self.problems)


def error_of(problems: tuple[Problem, ...]) -> ConfigError:
    """The typed error for a broken config: the first problem, and how many more there are."""
    first = problems[0]
    more = f" (and {len(problems) - 1} more: run `edgeheal config check`)" if len(problems) > 1 else ""
    return ConfigError(first.sentence() + more, place=first.place(), hint=first.hint())


def load(layout: Layout) -> Loaded:
    """Read and check the config of the device below `layout`."""
    texts, problems = read_layers(layout)
    if problems:
        return Loaded(None, {}, problems, texts)
    return load_texts(texts, layout.etc)


def load_texts(texts: tuple[Text, ...], base: str) -> Loaded:
    """Check texts that were read already; relative paths in them start at `base`."""
    config, origins, problems = decode(texts, base)
    return Loaded(None if problems else config, origins, problems, texts)
