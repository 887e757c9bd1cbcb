# SPDX-License-Identifier: Apache-2.0
"""The agent's process: reads its words, puts itself together, runs until told to end.

Duty: the way in. Exit codes: 0 ended in order, 1 a fault at start (told on stderr with its next step).
"""

import gc
import os
import sys

from edgeheal.agent import lean


def main(argv: list[str]) -> int:
    """Run the agent; `--root DIR`."""
    root = _word(argv, "--root", "/")
    os.umask(0o027)
    placed = lean.begin()  # before anything that declares a dataclass
    from edgeheal.adapters.manager import Manager
    from edgeheal.agent.alarm import Ends
    from edgeheal.agent.assembly import Agent
    from edgeheal.core.errors import EdgeHealError
    from edgeheal.core.layout import Layout

    manager = Manager()
    try:
        agent = Agent(Layout(root))
    except EdgeHealError as fault:
        sys.stderr.write(f"<3>edgeheal agent: {fault}\n  next: {fault.hint}\n")
        return fault.exit_code
    lean.done(placed)
    agent.loop.add("ends", Ends(agent.loop.stop, agent.reload))
    gc.collect()
    gc.freeze()
    agent.loop.add("manager", manager)
    manager.ready()
    agent.run(manager.ending)
    return 0


def _word(argv: list[str], name: str, default: str) -> str:
    return argv[argv.index(name) + 1] if name in argv[:-1] else default
