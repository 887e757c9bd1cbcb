# SPDX-License-Identifier: Apache-2.0
"""Why did we boot: witnesses weighed, never guessed; looked at once a boot, and kept with the boot's id."""

import itertools
import os
import subprocess
import time
from pathlib import Path

import pytest
from dog_box import CARDRESET, TELLING, image, until
from hypothesis import given
from hypothesis import strategies as st
from test_hooks_and_budgets import hook

from edgeheal.core import reasons
from edgeheal.detect import reset
from edgeheal.detect.reset import Crash, Dog, Facts, Source, judge
from edgeheal.wire import guard_frames as f

END = reset.END_RUNNING
PANIC = Crash(reset.P_PANIC, "Kernel panic - not syncing: sysrq triggered crash", 7)
BIT = Dog("watchdog0", CARDRESET, tells=True, armed=True)
SILENT = Dog("watchdog0", 0, tells=True, armed=True)
AMBIGUOUS = Source("pm_rsts", "0x20", ("watchdog", "ordered"))

# field case fc-dog-2: what was seen -> what is said
TABLE = [
    ("ordered by us, clean", Facts(order=(0, 1), end=reset.END_REBOOT), "ordered reboot"),
    ("ordered off by us, then power", Facts(order=(1, 2), end=reset.END_OFF, off_s=7_200), "ordered power-off"),
    ("a clean shutdown that was not ours", Facts(end=reset.END_REBOOT, dogs=(SILENT,)), "ordered reboot"),
    ("shut down, to what end nobody said, then power", Facts(end=reset.END_DOWN, off_s=900), "ordered"),
    ("register that cannot tell, with our mark", Facts(order=(0, 3), sources=(AMBIGUOUS,)), "ordered reboot"),
    ("register that cannot tell, without it, dog armed", Facts(sources=(AMBIGUOUS,), dogs=(Dog("watchdog0", 0, armed=True),)), "watchdog"),
    ("register that cannot tell, nothing else", Facts(sources=(AMBIGUOUS,)), "unknown (ordered or watchdog?)"),
    ("register cleared by another reader", Facts(sources=(Source("pm_rsts", "0x0"),)), "unknown (power loss?)"),
    ("register of a power-on", Facts(sources=(Source("pm_rsts", "0x1000", ("power loss",)),)), "power loss"),
    ("the dog tells", Facts(dogs=(BIT,)), "watchdog"),
    ("the dog tells, and we had ordered a reboot", Facts(order=(0, 4), dogs=(BIT,)), "unknown (watchdog or ordered?)"),
    ("the dog tells, and the shutdown had come to its end", Facts(order=(0, 4), end=reset.END_REBOOT, dogs=(BIT,)), "unknown (ordered or watchdog?)"),
    ("a dog that says so after ordered reboots, too", Facts(order=(0, 5), end=reset.END_REBOOT, dogs=(Dog("w", CARDRESET, True, True, True),)), "ordered reboot"),
    ("that dog, and nothing else", Facts(dogs=(Dog("w", CARDRESET, True, True, True),)), "unknown (power loss or watchdog?)"),
    ("a dog that never tells, armed", Facts(dogs=(Dog("w", 0, armed=True),)), "unknown (power loss or watchdog?)"),
    ("boot status 0, a panic in pstore", Facts(dogs=(SILENT,), crashes=(PANIC,)), "panic"),
    ("a panic, then the dog", Facts(dogs=(BIT,), crashes=(PANIC,)), "panic"),
    ("a pretimeout, then the dog", Facts(dogs=(BIT,), crashes=(Crash(reset.P_PRETIMEOUT, "watchdog pretimeout event"),)), "watchdog"),
    ("an oops only", Facts(crashes=(Crash(reset.P_OOPS, "BUG: unable to handle"),)), "unknown (panic or power loss?)"),
    ("a journal that ends in the middle of a record", Facts(torn=True), "power loss"),
    ("off for two hours", Facts(off_s=7_200), "power loss"),
    ("low voltage", Facts(dogs=(Dog("w", reset.POWERUNDER, True),)), "brown-out"),
    ("too hot", Facts(dogs=(Dog("w", reset.OVERHEAT, True),)), "thermal"),
    ("too hot, shut down by the kernel", Facts(end=reset.END_OFF, crashes=(Crash(reset.P_THERMAL, "critical temperature reached"),)), "thermal"),
    ("a hand at the keyboard", Facts(crashes=(Crash(reset.P_SYSRQ, "sysrq: Resetting"),)), "ordered"),
    ("nothing at all", Facts(), "unknown (power loss?)"),
    ("the guard was stopped, then nothing is known", Facts(end=reset.END_GUARD), "unknown (ordered?)"),
    ("the record of the boot before is damaged", Facts(end=reset.END_UNREADABLE), "unknown"),
    ("the first boot", Facts(first=True), "unknown (first boot seen)"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "said"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_fc_dog_2_each_pattern_of_witnesses_has_its_verdict(facts, said):
    verdict = judge(facts)
    assert verdict.text == said, verdict
    assert verdict.planned is (said.startswith("ordered") or "first boot" in said or said == "unknown (ordered?)")


_FACTS = st.builds(
    Facts,
    order=st.none() | st.tuples(st.integers(0, 2), st.integers(1, 9)),
    end=st.sampled_from(range(6)),
    crashes=st.lists(st.builds(Crash, st.sampled_from(range(6))), max_size=2).map(tuple),
    dogs=st.lists(st.builds(Dog, st.just("w"), st.sampled_from([-1, 0, CARDRESET, 0x10, 1]), st.booleans(), st.booleans(), st.booleans()), max_size=2).map(
        tuple
    ),
    sources=st.lists(st.builds(Source, st.just("s"), st.just("1"), st.lists(st.sampled_from(reset.REASONS), unique=True).map(tuple)), max_size=2).map(tuple),
    off_s=st.sampled_from([-1, 100, 9_000]),
    torn=st.booleans(),
)


@given(_FACTS)
def test_a_verdict_stands_clear_of_all_others_or_is_unknown(facts):
    verdict = judge(facts)
    weights = [weight for _, weight in verdict.weighed]
    assert weights == sorted(weights, reverse=True)
    if verdict.reason == reset.UNKNOWN:
        assert not weights or weights[0] < reset.ENOUGH or weights[0] < weights[1] * reset.CLEAR
    else:
        assert weights[0] >= reset.ENOUGH
        assert all(weights[0] >= other * reset.CLEAR for other in weights[1:])


@given(_FACTS)
def test_a_witness_less_never_names_what_no_other_witness_spoke_for(facts):
    """Without its witnesses a boot is at most `unknown (power loss?)`."""
    bare = judge(Facts(end=facts.end if facts.end == END else END))
    assert bare.reason == reset.UNKNOWN


def test_what_speaks_for_the_verdict_is_named_first():
    verdict = judge(Facts(dogs=(BIT,), sources=(Source("board", "0x0"),)))
    assert verdict.seen[0] == "watchdog0 says that it reset the box"
    assert "nothing had ended in order" in verdict.seen


# -- the real guard


def test_an_ordered_reboot_is_known_by_its_number_and_a_cut_is_not_taken_for_one(dog_box):
    box = dog_box(guard="reboots = true").start()
    assert box.verdict().text == "unknown (first boot seen)"
    hook(box, "reboot", "true")
    assert box.ask(f.REBOOT).reason == reasons.OK
    box.term("reboot")
    box.boot()
    assert box.why().facts.order == (0, 1)
    assert box.verdict().text == "ordered reboot"
    box.cut()
    why = box.why()
    assert (why.facts.order, why.facts.end, why.count, why.unplanned) == (None, reset.END_RUNNING, 3, 1)


@pytest.mark.parametrize(("word", "said"), [("reboot", "ordered reboot"), ("poweroff", "ordered power-off"), ("down", "ordered"), ("", "unknown (ordered?)")])
def test_a_shutdown_of_the_whole_system_leaves_a_clean_mark_and_a_restart_of_the_guard_none(dog_box, word, said):
    box = dog_box().start()
    box.term()
    box.start()  # systemctl restart: the same boot
    box.term(word)
    box.boot()
    assert box.verdict().text == said
    assert box.why().unplanned == 0
    box.term()
    box.start()
    box.cut()
    assert box.why().facts.end == reset.END_RUNNING, "what ended in order before it ran on says nothing"


def test_the_queue_of_systemd_tells_a_shutdown_from_a_restart():
    from edgeheal.guard import shutdown
    from edgeheal.guard.boots import GUARD_ENDED, TO_OFF, TO_REBOOT

    down = "  812 {0}.target start waiting\n  813 systemd-{0}.service start waiting\n  790 shutdown.target start waiting\n  801 edgeheal-guard.service stop running\n"
    assert shutdown.jobs(down.format("reboot")) == TO_REBOOT
    assert shutdown.jobs(down.format("kexec")) == TO_REBOOT
    assert shutdown.jobs(down.format("poweroff")) == TO_OFF
    assert shutdown.jobs(down.format("halt")) == TO_OFF
    assert shutdown.jobs("  99 edgeheal-guard.service restart running\n") == GUARD_ENDED
    assert shutdown.jobs("No jobs running.\n") == GUARD_ENDED


def test_fc_dog_2_a_register_is_read_once_a_boot_and_kept_with_it(dog_box):
    register = '[reset.board]\nfile = "{}"\nmeans = ["0x20 watchdog", "0x1000 power-loss"]\n'
    box = dog_box(more="")
    box.tables += register.format(box.register)
    box.register.write_text("0x20\n")
    box.write_config(apps="[apps.demo]\n", more=box.tables)
    box.start()
    assert box.verdict().text == "watchdog"
    box.register.write_text("0x0\n")  # cleared by whoever read it first
    box.again()
    time.sleep(1.5)  # longer than a second look would take
    assert box.verdict().text == "watchdog", "another guard of the same boot tells what the first one saw"
    assert box.why().facts.sources == (Source("board", "0x20", ("watchdog",)),)
    box.cut()
    assert box.verdict().text == "unknown (power loss?)"


def test_fc_dog_2_a_dog_that_always_says_it_bit_is_found_out(dog_box):
    box = dog_box(dogs=[{"options": TELLING, "bootstatus": CARDRESET}], guard='reboots = true\n[guard.budgets]\nreboot = ["9 in 6h"]').start()
    hook(box, "reboot", "true")
    said = []
    for _ in range(2):
        assert box.ask(f.REBOOT).reason == reasons.OK
        box.term("reboot")
        box.boot()
        said.append(box.verdict().text)
    assert said == ["unknown (ordered or watchdog?)", "ordered reboot"]
    box.cut()
    assert box.verdict().reason == reset.UNKNOWN, "its word alone is not enough any more"
    box.dogs[0].set(bootstatus=0)
    assert box.ask(f.REBOOT).reason == reasons.OK
    box.term("reboot")
    box.boot()
    assert box.verdict().text == "ordered reboot"
    box.dogs[0].set(bootstatus=CARDRESET)
    box.cut()
    assert box.verdict().text == "watchdog", "believed again since it was seen to be silent after an ordered reboot"


def test_a_box_that_was_off_for_hours_by_its_own_clock_lost_its_power(dog_box):
    from edgeheal.guard.blocks import Blocks

    box = dog_box().start()
    box.kill()
    kept = Blocks(f"{box.layout.guard}/box", 512)
    value = kept.load()
    kept.store(value | {"wall": value["wall"] - 30_000_000})
    box.boot()
    assert box.verdict().text == "power loss"


def test_damaged_books_say_so_and_are_no_fresh_start(dog_box):
    box = dog_box().start()
    box.kill()
    for name in ("boots.a", "boots.b"):
        path = Path(box.layout.guard) / name
        if path.exists():
            path.write_bytes(bytes(path.stat().st_size))
    box.boot()
    assert box.why().facts.end == reset.END_UNREADABLE
    assert not box.why().facts.first


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_medium_that_takes_no_write_still_tells_why(dog_box):
    box = dog_box().start()
    box.cut()
    assert box.why().unplanned == 1


# -- boot loops, the guard's part


def test_an_image_on_trial_under_which_the_box_goes_down_three_times_is_out_before_anything_starts(dog_box):
    box = dog_box(apps=("demo",)).start()
    good = box.good(image("1.0"))
    bad = image("2.0")
    assert box.install(bad) == 0
    until(lambda: box.running() == bad.id, 10, "the trial")
    for n in itertools.count(1):
        box.cut()
        if box.running() != bad.id:
            break
        assert n < 4
    assert n == 3
    assert box.running() == good.id
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "the known-good to run")
    assert box.why().answers & f.L_ROLLBACK
    assert [run["EDGEHEAL_IMAGE"] for run in box.all_runs()][-1] == good.id.hex()


def test_in_a_boot_loop_no_remedy_reboots_but_a_person_may(dog_box):
    box = dog_box(guard="reboots = true").start()
    hook(box, "reboot", "true")
    for _ in range(3):
        box.cut()
    assert box.why().unplanned == 3
    with box.agent() as door:
        assert door.ask(f.REBOOT).reason == reasons.BOOT_LOOP
    assert box.ask(f.REBOOT).reason == reasons.OK


def test_the_guard_names_the_youngest_image_and_remembers_what_was_answered(dog_box):
    box = dog_box(apps=("demo", "old")).start()
    box.good(image("1.0", app="old"), "old")
    box.good(image("1.0"))
    box.good(image("2.0"))
    for _ in range(3):
        box.cut()
    assert box.why().suspect == "demo"
    hook(box, "os-rollback", "true")
    with box.agent() as door:
        assert door.ask(f.SWITCH, app="demo").reason == reasons.OK
        assert door.ask(f.HOOK, app="os-rollback").reason == reasons.OK
    box.cut()
    assert box.why().answers == f.L_ROLLBACK | f.L_OS


# -- fc-dog-3


@pytest.fixture
def trial(dog_box):
    """A fake boot loader: three attempts, counted down at each start; the hook before an ordered reboot gives the attempt back."""
    box = dog_box(guard='reboots = true\n[guard.budgets]\nreboot = ["9 in 6h"]')
    env = box.folder / "grubenv"
    env.write_text("# GRUB Environment Block\nBOOT_A_LEFT=3\n")
    box.tables += f'[reset.slot]\nfile = "{env}"\nform = "env"\nfield = "BOOT_A_LEFT"\nattempts = 3\n'
    box.write_config(apps="[apps.demo]\n", guard='reboots = true\n[guard.budgets]\nreboot = ["9 in 6h"]', more=box.tables)
    hook(box, "reboot", "true")
    hook(box, "before-reboot", f"n=$(sed -n s/BOOT_A_LEFT=//p {env}); sed -i s/BOOT_A_LEFT=.*/BOOT_A_LEFT=$((n + 1))/ {env}", name="10-give-back")

    def left():
        return int(env.read_text().split("BOOT_A_LEFT=")[1].split()[0])

    def loader():
        """One start of the boot loader; False: no attempt was left, it starts the old system."""
        n = left()
        env.write_text(f"# GRUB Environment Block\nBOOT_A_LEFT={max(0, n - 1)}\n")
        return n > 0

    return box, left, loader


def test_fc_dog_3_ordered_reboots_during_a_trial_cost_no_attempt(trial):
    box, left, loader = trial
    assert loader()
    box.start()
    for n in (1, 2):
        assert box.ask(f.REBOOT).reason == reasons.OK
        box.term("reboot")
        assert loader()
        box.boot()
        assert box.why().trial == (1, 3, n), "attempt 1 of 3, n ordered reboots"
    assert left() == 2
    box.cut()
    assert loader()
    box.cut()
    assert box.why().trial == (2, 3, 0)


def test_fc_dog_3_three_cuts_of_power_fall_back(trial):
    box, left, loader = trial
    assert loader()
    box.start()
    booted = []
    for _ in range(3):
        booted.append(loader())
        box.cut()
    assert booted == [True, True, False]
    assert left() == 0


def test_fc_dog_3_the_hook_may_put_the_reboot_off(trial):
    box, left, loader = trial
    loader()
    box.start()
    hook(box, "before-reboot", "exit 75", name="00-trial")
    assert box.ask(f.REBOOT).reason == reasons.NOT_NOW
    box.cut()
    assert box.why().facts.order is None


def test_fc_dog_3_the_example_hook_gives_an_attempt_back_and_reads_it_back(tmp_path):
    here = Path(__file__).resolve().parents[2] / "firmware_hooks/hooks/before-reboot.d/10-give-attempt-back"
    env = tmp_path / "env"
    env.write_text("2")

    def tool(name, body):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)

    def run():
        return subprocess.run([here], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, check=False).returncode

    assert run() == 0, "no boot loader's tools: nothing is on trial"
    tool("fw_printenv", f"cat {env}")
    tool("fw_setenv", f'printf %s "$2" > {env}')
    assert run() == 0
    assert env.read_text() == "3"
    assert run() == 0
    assert env.read_text() == "3", "never more than there were"
    env.write_text("1")
    tool("fw_setenv", "true")
    assert run() == 1, "it says 0 and has written nothing"
    env.write_text("rubbish")
    assert run() == 2


def test_fc_dog_3_the_screen_says_which_attempt_it_is():
    from edgeheal.agent.why import WhyBooted
    from edgeheal.wire.boot_facts import Boot

    why = WhyBooted(None, None, None)
    assert why.notes() == []
    why.boot = Boot(trial=(1, 3, 2))
    assert why.notes() == ["system on trial, attempt 1 of 3, 2 ordered reboots"]
