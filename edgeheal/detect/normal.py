# SPDX-License-Identifier: Apache-2.0
"""What is normal for one sensor, learned from itself: how rough it is, how far it moves, how long it rests - and what goes beyond.

Duty: a bounded, streaming record of one series. Each statistic keeps the largest values that were usual here; beyond `FACTOR` times those,
block after block, it is unusual. It knows no signal and no clock but the numbers it is given.
Healthy look-alikes: noise, coarse steps (long rests are learned as such), a day's wave, a single spike, a slow trend, a true step as they come here.
Invariants: nothing is judged before `LEAST` readings and the time to learn; what is unusual is not learned; bounded to `RECENT` readings.
"""

from dataclasses import dataclass, field

RECENT = 48
BLOCK = 8  # the statistics are taken at each eighth reading: neighbours overlap, and a judgement costs little
LEAST = 128
ROUGH, NEAR, SPIKE = 16, 5, 32  # readings: of the roughness, of the level now (before it: ROUGH), of the spikes
CALM = 12  # of the ROUGH steps, the smallest: a spike or two are no roughness
FACTOR = 2.0
STUCK_LEAST, STUCK_FACTOR = 10, 2.5
SAME_LEAST, SAME_FACTOR = 16, 3.0  # of RECENT: so many equal readings, not in a row
SPIKE_FACTOR, SPIKES_LEAST = 4.0, 4  # a step so many times the usual roughness; a spike is two of them
AGREE = 2  # blocks in a row
KEPT = 3
YIELD = 0.05  # how much of what is a little above the usual is taken over


@dataclass(slots=True)
class Usual:
    """The largest `KEPT` values of a statistic while it was learned, ascending; `over`: blocks in a row beyond; `on`: it was told."""

    most: list[float] = field(default_factory=list)
    over: int = 0
    on: bool = False
    agree: int = AGREE

    def learn(self, value: float, *, settled: bool) -> None:
        """One more value that was usual."""
        if not settled or len(self.most) < KEPT:
            self.most = sorted((*self.most, value))[-KEPT:]
        elif value > self.most[0]:
            self.most[0] += YIELD * (value - self.most[0])
            self.most.sort()

    @property
    def limit(self) -> float:
        """The third largest: one odd hour while it was learned does not make it blind."""
        return self.most[0] if self.most else 0.0

    def judge(self, value: float, limit: float) -> int:
        """1: unusual from now on; -1: usual again; 0: no news."""
        beyond = value > limit
        self.over = self.over + 1 if beyond is not self.on else 0
        if self.over < self.agree:
            return 0
        self.on, self.over = beyond, 0
        return 1 if beyond else -1


@dataclass(slots=True)
class Normal:
    """`n` readings since `first_ns`. `run`: equal readings in a row now, `rest`: the most of those that ended, `rest_at`: where it was too long.

    `low`, `high`: between what it moved so far.
    """

    first_ns: int = 0
    n: int = 0
    recent: list[float] = field(default_factory=list)
    run: int = 0
    rest: int = 0
    rest_at: float | None = None
    low: float = 0.0
    high: float = 0.0
    rough: Usual = field(default_factory=Usual)
    shift: Usual = field(default_factory=lambda: Usual(agree=1))
    same: Usual = field(default_factory=Usual)
    spikes: Usual = field(default_factory=Usual)
    settled: bool = False

    def add(self, at_ns: int, value: float, learn_ns: int) -> bool:
        """One reading; True when a block is full and `judge` has something to say."""
        recent = self.recent
        if self.n == 0:
            self.first_ns, self.low, self.high = at_ns, value, value
        if recent and value == recent[-1]:
            self.run += 1
        else:
            if self.run:
                self._rested(recent[-1] if recent else value)
            self.run = 1
        recent.append(value)
        if len(recent) > RECENT:
            del recent[0]
        self.n += 1
        if not self.settled and self.n >= LEAST and at_ns - self.first_ns >= learn_ns:
            self.settled = True
            self.rest = max(self.rest, self.run)
        return self.n % BLOCK == 0 and len(recent) == RECENT

    def _rested(self, value: float) -> None:
        """A rest is over. A long one is usual once it was at a value where it had rested long before: a night's darkness, a pump that is off."""
        if not self.resting or value == self.rest_at:
            self.rest = max(self.rest, self.run)
        elif self.settled:
            self.rest_at = value

    @property
    def resting(self) -> bool:
        """Whether it stands still for longer than it ever did."""
        return self.settled and self.run >= self.most_rest

    @property
    def most_rest(self) -> int:
        """So many equal readings in a row are stuck."""
        return max(STUCK_LEAST, round(STUCK_FACTOR * self.rest))

    def judge(self) -> list[tuple[str, int, float, float]]:
        """(statistic, 1 or -1, its value, its limit) of each that has news; without news it is learned from."""
        recent = self.recent
        steps = [abs(b - a) for a, b in zip(recent[-SPIKE - 1 :], recent[-SPIKE:], strict=False)]
        rough = sum(sorted(steps[-ROUGH:])[:CALM]) / CALM
        now, before = sorted(recent[-NEAR:])[NEAR // 2], sorted(recent[-NEAR - ROUGH : -NEAR])[ROUGH // 2]
        far = SPIKE_FACTOR * max(self.rough.limit, self.grain)
        spiky = float(sum(1 for step in steps if step > far)) if self.n > LEAST // 2 else 0.0
        figures = (
            ("rough", self.rough, rough, FACTOR * max(self.rough.limit, self.grain)),
            ("shift", self.shift, abs(now - before), FACTOR * max(self.shift.limit, self.grain)),
            ("same", self.same, _most_equal(recent), max(SAME_LEAST, SAME_FACTOR * self.same.limit)),
            ("spikes", self.spikes, spiky, max(SPIKES_LEAST - 1, FACTOR * self.spikes.limit)),
        )  # fmt: skip
        if not self.settled:
            for _, usual, value, _ in figures:
                usual.learn(value, settled=False)
            self._range(min(now, before), max(now, before))
            return []
        news = [(name, said, value, limit) for name, usual, value, limit in figures if (said := usual.judge(value, limit))]
        if not any(usual.on or usual.over for _, usual, _, _ in figures):
            for _, usual, value, _ in figures:
                usual.learn(value, settled=True)
            self._range(min(now, before), max(now, before))
        return news

    @property
    def grain(self) -> float:
        """A step that says nothing: a thousandth of what it ranges over."""
        return max(1e-9, (self.high - self.low) / 1_000)

    def _range(self, low: float, high: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)

    def apart(self, value: float) -> bool:
        """Whether a value lies far outside all it ever read, by half its range at least."""
        wide = 0.5 * (self.high - self.low)
        return value < self.low - wide or value > self.high + wide

    def breaks(self) -> None:
        """Readings are missing: what comes is no continuation."""
        self.recent.clear()
        self.run = 0

    def anew(self) -> None:
        """Forget everything: this is another normal."""
        self.n = self.run = self.rest = 0
        self.recent.clear()
        self.settled = False
        self.rough, self.shift, self.same, self.spikes = Usual(), Usual(), Usual(), Usual()


def _most_equal(values: list[float]) -> float:
    """How many of them are the most frequent value."""
    counts: dict[float, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return float(max(counts.values()))
