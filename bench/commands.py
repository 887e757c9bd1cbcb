# SPDX-License-Identifier: Apache-2.0
"""Hostile signed words by every road into a whole device: over MQTT, at the guard's door, as file and as lines of text.

Every way in which a word can be wrong (`edgeheal.lab.hostile_words`) takes its turn; between them come right ones, which must be carried out.
The truth is the device's own state (run of the app, wanted, pause) and the answer to each word. BENCH_COMMANDS sets how many (20,000).
Beside: bytes of a right command, and the time to verify one as a ratio to a bare Ed25519 verification in the same run.
"""

import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

TRIED = int(os.environ.get("BENCH_COMMANDS", "20000"))
BLOCK = 190  # hostile words between two right ones
WINDOW = 19
PATIENCE_S = 60.0
PAYLOAD_MOST = 200_000
APP = "sensor-gw"


def run(tried: int = TRIED) -> dict[str, Any]:
    """`tried`, and three figures that must be 0: `carried_out`, `untyped`, `valid_refused`."""
    from edgeheal.lab import demo
    from edgeheal.lab.stage import Stage

    with tempfile.TemporaryDirectory(prefix="bench-commands-", ignore_cleanup_errors=True) as name, Stage(Path(name)) as stage:
        _, world = demo.set_stage(stage, lambda _: None)
        try:
            trial = Trial(stage)
            for road, share in ((trial.at_the_door, 0.58), (trial.over_mqtt, 0.40), (trial.as_file_and_lines, 0.02)):
                trial.block(road, round(tried * share))
            return trial.figures() | verify_time(trial)
        finally:
            world.close()


class Trial:
    """The words so far and what became of them."""

    def __init__(self, stage: Any) -> None:
        from edgeheal.fleet.session import Address, Session
        from edgeheal.lab.hostile_words import Author
        from edgeheal.trust import sign
        from edgeheal.wire import topics

        keys = {role: sign.load((stage.keys / f"{role}.key").read_bytes()) for role in ("operator", "technician", "release")}
        self.keys = keys | {"stranger": sign.load((stage.keys / "mallory.key").read_bytes())}
        self.stage = stage
        self.author = Author(self.keys, tenant=stage.tenant, device=stage.device, app=APP)
        self.tried = self.carried_out = self.untyped = self.valid = self.valid_refused = 0
        self.answers: Counter[str] = Counter()
        self.bytes: list[int] = []
        self._down = topics.of(stage.tenant, stage.device, topics.DOWN_COMMAND)
        self._session = Session(Address("127.0.0.1", stage.port, version="5"), "bench-commands", clean=True)
        self._session.subscribe(*(topics.of(stage.tenant, stage.device, kind) for kind in (topics.UP_RESULT, topics.UP_HEALTH)), qos=1)
        self._results: dict[bytes, tuple[int, int]] = {}
        self._nameless = self._told = 0  # words without a name over MQTT, and how many of them the heartbeat tells of
        self._stands = self._state()

    def figures(self) -> dict[str, Any]:
        """The object of the bench. What has no name to be refused under is counted by the device, and told with its heartbeat."""
        self._hear(lambda: self._told >= self._nameless)
        self.answers["counted, without a name"] = self._told
        self.untyped += max(0, self._nameless - self._told)
        return {
            "tried": self.tried, "carried_out": self.carried_out, "untyped": self.untyped, "valid_refused": self.valid_refused, "valid": self.valid,
            "answers": dict(self.answers.most_common()), "bytes": round(statistics.median(self.bytes)),
        }  # fmt: skip

    def block(self, road: Any, count: int) -> None:
        """So many hostile words by one road, a right one before them (it spends a counter) and after every BLOCK."""
        self._right_one(road)
        at = 0
        while at < count:
            size = min(BLOCK, count - at)
            road([self.author.hostile(n) for n in range(self.tried, self.tried + size)])
            self.tried += size
            at += size
            self._right_one(road)
            print(f"{self.tried} tried, {self.valid} right ones", file=sys.stderr)

    def _right_one(self, road: Any) -> None:
        """A pause or its end, by the same road: it is carried out, and nothing else has been."""
        from edgeheal.core.kinds import ActionCode

        self.valid += 1
        pause = not self._stands[2]
        word = self.author.valid(ActionCode.PAUSE if pause else ActionCode.RESUME, seconds=3_600 if pause else 0)
        self.bytes.append(len(word.data))
        before = self._stands
        self.carried_out += self._state() != before
        road([word])
        end = time.monotonic() + PATIENCE_S
        while (now := self._state()) != (before[0], before[1], pause):
            if time.monotonic() > end:
                self.valid_refused += 1
                break
            time.sleep(0.05)
        self._stands = now

    def _state(self) -> tuple[int, int, bool]:
        """(process, wanted, paused) of the app, as the guard says."""
        from edgeheal.adapters.guard_client import GuardDoor
        from edgeheal.wire import guard_frames as f

        with GuardDoor(str(self.stage.root / "run/edgeheal/guard.sock"), timeout_s=30) as door:
            row = door.ask(f.STATUS, app=APP).rows[0]
        values = f.APP_ROW.unpack(row)
        return values[7], values[12], bool(values[15] & f.F_PAUSED)

    # -- three roads

    def at_the_door(self, words: list[Any]) -> None:
        """PRESENT, by a person."""
        from edgeheal.adapters.guard_client import GuardDoor
        from edgeheal.agent.words import sealed
        from edgeheal.core import reasons
        from edgeheal.core.errors import EdgeHealError
        from edgeheal.wire import guard_frames as f

        with GuardDoor(str(self.stage.root / "run/edgeheal/guard.sock"), timeout_s=60) as door:
            for word in words:
                fd = sealed(word.data)
                try:
                    reason = door.ask(f.PRESENT, fd=fd).reason
                except EdgeHealError:
                    reason = -1
                finally:
                    os.close(fd)
                self._judge(word, reason, known=reason in reasons.WORDS)

    def over_mqtt(self, words: list[Any]) -> None:
        """As the fleet sends them; a result is waited for where the word has a name."""
        from edgeheal.core.kinds import ResultState
        from edgeheal.wire import commands

        words = [w if len(w.data) < PAYLOAD_MOST else w._replace(data=w.data[:PAYLOAD_MOST]) for w in words]  # a broker takes no more
        for at in range(0, len(words), WINDOW):
            chunk = words[at : at + WINDOW]
            due: dict[bytes, Any] = {}
            for word in chunk:
                name = commands.peek_id(word.data)
                self._session.publish(self._down, word.data)
                if name and word.kind != "replayed":  # a result is told once; a replay is refused in silence or as such
                    due[name] = word
                elif not name:
                    self._nameless += 1
            self._hear(lambda due=due: due.keys() <= self._results.keys())
            for name, word in due.items():
                state, reason = self._results.get(name, (-1, -1))
                done = state in (ResultState.DONE, ResultState.RUNNING)
                self._judge(word, 0 if done else reason, known=state >= 0)

    def _hear(self, enough: Any) -> None:
        from edgeheal.wire import health, results

        end = time.monotonic() + PATIENCE_S
        while not enough() and time.monotonic() < end:
            for message in self._session.wait(0.5):
                self._session.acknowledge([message.mid] if message.mid else [])
                if message.topic.endswith("/up/result"):
                    said = results.read(message.payload).result
                    self._results[said.command] = (int(said.state), said.reason)
                else:
                    self._told = health.decode(message.payload).bad_messages

    def as_file_and_lines(self, words: list[Any]) -> None:
        """`edgeheal redeem`, from a file and as pasted lines in turn."""
        import json

        from edgeheal.wire import token_lines

        path = self.stage.folder / "token"
        for n, word in enumerate(words):
            path.write_text("\n".join(token_lines.encode(word.data))) if n % 2 and len(word.data) < 8_192 else path.write_bytes(word.data)
            done = self.stage.on_device("redeem", str(path), "--json", check=False, seconds=120)
            said = json.loads(done.stdout or b"{}")
            ok = done.returncode == 0
            typed = ok or "reason" in said or "error" in said or (done.returncode in (1, 2, 4, 6) and done.stderr and b"Traceback" not in done.stderr)
            self._judge(word, 0 if ok else 1, known=bool(typed), label=str(said.get("reason", "")) or f"exit {done.returncode}")

    def _judge(self, word: Any, reason: int, *, known: bool, label: str = "") -> None:
        from edgeheal.core import reasons

        right = word.kind == "valid"
        if not right:
            self.answers[label or (reasons.word(reason) if known else "no answer")] += 1
            self.carried_out += reason == 0
            self.untyped += not known
        elif reason != 0:
            self.valid_refused += 1


def verify_time(trial: Trial) -> dict[str, Any]:
    """Reading and proving one command beside one bare Ed25519 verification of as many bytes: medians, in turns."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from edgeheal.core.kinds import ActionCode
    from edgeheal.trust import envelope
    from edgeheal.trust.verify import signers
    from edgeheal.wire import commands

    data = trial.author.valid(ActionCode.RESTART).data
    key = Ed25519PrivateKey.generate()
    body = envelope.decode(data).body
    signature, public = key.sign(body), key.public_key()

    def ours() -> None:
        signed = envelope.decode(data, envelope.COMMAND)
        signers(signed)
        commands.decode_body(signed.body)

    mine, bare = [], []
    for _ in range(400):
        for do, into in ((ours, mine), (lambda: public.verify(signature, body), bare)):
            began = time.perf_counter_ns()
            do()
            into.append(time.perf_counter_ns() - began)
    return {
        "verify_us": statistics.median(mine) / 1000,
        "bare_verify_us": statistics.median(bare) / 1000,
        "verify_ratio": statistics.median(mine) / statistics.median(bare),
    }
