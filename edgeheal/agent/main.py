# SPDX-License-Identifier: Apache-2.0
"""The agent's process: reads its words, puts itself together, runs until told to end.

Duty: the way in. Exit codes: 0 ended in order, 1 a fault at start (told on stderr with its next step).
"""

import gc
import os

from edgeheal.agent import lean


def main(argv: list[str]) -> int:
    """Run the agent; `--root DIR`."""
    root = _word(argv, "--root", "/")
    level = _word(argv, "--log-level", os.environ.get("EDGEHEAL_LOG_LEVEL", "info"))
    os.umask(0o027)
    placed = lean.begin()  # before anything that declares a dataclass
    from edgeheal.adapters.manager import Manager
    from edgeheal.adapters.own_log import OwnLog
    from edgeheal.agent.alarm import Ends
    from edgeheal.agent.assembly import Agent
    from edgeheal.agent.chronicle import Chronicle
    from edgeheal.core.errors import EdgeHealError
    from edgeheal.core.layout import Layout
    from edgeheal.core.version import VERSION

    manager, log = Manager(), OwnLog("agent", level)
    try:
        agent = Agent(Layout(root))
    except EdgeHealError as fault:
        log.say("cannot-begin", f"{fault}\nnext: {fault.hint}")
        return fault.exit_code
    lean.done(placed)
    chronicle = Chronicle(log)
    agent.brain.listen(chronicle.heed)
    agent.brain.overhear(chronicle.overhear)
    agent.loop.add("ends", Ends(agent.loop.stop, agent.reload))
    gc.collect()
    gc.freeze()
    agent.loop.add("manager", manager)
    agent.loop.add("rest", lean.Rest())
    manager.ready()
    log.say("began", f"agent of {agent.layout.root}, version {VERSION}, session {agent.session.hex()}")
    agent.run(manager.ending)
    log.say("ended", "in order; the apps run on")
    return 0


def _word(argv: list[str], name: str, default: str) -> str:
    return argv[argv.index(name) + 1] if name in argv[:-1] else default
