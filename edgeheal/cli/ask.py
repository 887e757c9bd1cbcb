# SPDX-License-Identifier: Apache-2.0
"""Ask the agent at its control socket, one JSON line there and back.

Duty: connect, ask, read. Invariant: nobody waits longer than the deadline; a dead agent is a typed error (exit 3).
"""

import json
import socket
from collections.abc import Iterator
from typing import Any

from edgeheal.core.errors import AgentUnreachableError, GuardError, RefusedByPolicyError

DEADLINE_S = 5.0


def _connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(DEADLINE_S)
    try:
        sock.connect(path)
    except PermissionError:
        sock.close()
        raise RefusedByPolicyError("the agent's door is closed to you", place=path, hint="be root, or a member of the group edgeheal") from None
    except OSError as fault:
        sock.close()
        raise AgentUnreachableError(f"the agent does not answer: {fault.strerror or fault}", place=path) from None
    return sock


def ask(path: str, do: str, **words: Any) -> dict[str, Any]:
    """The agent's answer to one request."""
    with _connect(path) as sock:
        try:
            sock.sendall(json.dumps({"id": 1, "do": do, **words}).encode() + b"\n")
            line = sock.makefile("rb").readline()
        except OSError as fault:
            raise AgentUnreachableError(f"the agent did not answer in {DEADLINE_S:.0f} s: {fault}", place=path) from None
    if not line:
        raise AgentUnreachableError("the agent closed the line", place=path)
    answer: dict[str, Any] = json.loads(line)
    if not answer.get("ok"):
        raise GuardError(str(answer.get("error", "refused")), place=path)
    return answer


def watch(path: str) -> Iterator[dict[str, Any]]:
    """Events of the agent as they happen, until it ends or the reader stops."""
    with _connect(path) as sock:
        sock.sendall(b'{"id":1,"do":"watch"}\n')
        sock.settimeout(None)
        for line in sock.makefile("rb"):
            yield json.loads(line)
