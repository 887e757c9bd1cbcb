# SPDX-License-Identifier: Apache-2.0
"""What a dying kernel left: told apart, fingerprinted, kept, cleared only where its room is needed and only after a copy."""

import os
import zlib

import pytest
from dog_box import until
from hypothesis import given
from hypothesis import strategies as st

from edgeheal.detect import reset
from edgeheal.guard import pstore, witness_child

PANIC = """Panic#1 Part1
<4>[  184.200114] CPU: {cpu} PID: {pid} Comm: bash Not tainted 6.1.0-25-amd64 #1  Debian 6.1.106-3
<4>[  184.200230] Call Trace:
<4>[  184.200301]  <TASK>
<4>[  184.200334]  dump_stack_lvl+0x44/0x5c
<4>[  184.200418]  panic+0x118/0x2ed
<4>[  184.200455]  {where}+0x{at:x}/0x20 [i2c_vendor]
<4>[  184.200530]  __handle_sysrq.cold+0x{at:x}/0x12b
<4>[  184.200613]  write_sysrq_trigger+0x24/0x40
<4>[  184.200690]  </TASK>
<0>[  184.200717] Kernel panic - not syncing: {why}
"""


def panic(why="Fatal exception in interrupt", where="vendor_xfer", at=0x16, cpu=0, pid=412):
    return PANIC.format(why=why, where=where, at=at, cpu=cpu, pid=pid)


TOLD = [
    (panic(), reset.P_PANIC),
    (panic("watchdog pretimeout event"), reset.P_PRETIMEOUT),
    ("Oops#1 Part1\n<1>[   12.1] BUG: kernel NULL pointer dereference, address: 0000000000000000\n", reset.P_OOPS),
    ("Oops#1 Part1\n<1>[   12.1] Internal error: Oops: 96000005 [#1] SMP\n", reset.P_OOPS),
    ("<2>[ 91.0] thermal thermal_zone0: cpu-thermal: critical temperature reached, shutting down\n<6>[ 92.0] reboot: Power down\n", reset.P_THERMAL),
    ("<6>[  9.0] reboot: Restarting system\n", reset.P_ORDER),
    ("<6>[  9.0] sysrq: Resetting\n", reset.P_SYSRQ),
]


@pytest.mark.parametrize(("text", "kind"), TOLD, ids=[str(k) + t[:8] for t, k in TOLD])
def test_each_kind_of_end_is_told(text, kind):
    said = pstore.told(text)
    assert said is not None
    assert said[0] == kind
    assert said[2].isprintable()


def test_a_log_that_says_nothing_of_an_end_is_nothing():
    assert pstore.told("<6>[ 1.0] usb 1-1: new high-speed USB device\n") is None
    assert pstore.told("") is None


def test_the_same_panic_groups_over_addresses_pids_and_times_and_another_does_not():
    one = pstore.told(panic())[1]
    assert pstore.told(panic(at=0x99, cpu=3, pid=9))[1] == one
    assert pstore.told(panic(where="other_xfer"))[1] != one
    assert pstore.told(panic(why="Attempted to kill init! exitcode=0x0000000b"))[1] != one
    assert pstore.told(panic(why="Attempted to kill init! exitcode=0x0000000b"))[1] == pstore.told(panic(why="Attempted to kill init! exitcode=0x00000009"))[1]


@given(st.text(max_size=2_000))
def test_whatever_the_kernel_left_costs_nobody_more_than_itself(text):
    said = pstore.told(text)
    assert said is None or (said[0] in range(6) and 0 <= said[1] < 1 << 63 and len(said[2]) <= pstore.HEADLINE_MOST)


def test_the_parts_of_one_panic_are_one_record_in_their_order(tmp_path):
    (tmp_path / "dmesg-efi-1").write_text("Panic#1 Part2\n<6>[1.0] early\n")
    (tmp_path / "dmesg-efi-2").write_text(panic())
    (tmp_path / "dmesg-ramoops-0.enc.z").write_bytes(zlib.compress(b"Oops#2 Part1\n<1>[3.0] BUG: scheduling while atomic\n"))
    (tmp_path / "notes").write_text("not a record")
    found = {pstore.told(r.text)[0]: r for r in pstore.find([str(tmp_path)])}
    assert set(found) == {reset.P_PANIC, reset.P_OOPS}
    assert len(found[reset.P_PANIC].files) == 2
    assert found[reset.P_PANIC].text.index("early") < found[reset.P_PANIC].text.index("not syncing")


def test_what_systemd_moved_away_is_found_too(tmp_path):
    folder = tmp_path / "7423" / "001"
    folder.mkdir(parents=True)
    (folder / "dmesg.txt").write_text(panic())
    assert [pstore.told(r.text)[0] for r in pstore.find([str(tmp_path)])] == [reset.P_PANIC]


def request(folder, keep, **words):
    return {"pstore": [str(folder)], "clear": True, "keep": str(keep), "sources": [], "seen": [], "first": False} | words


def test_a_record_is_news_once_and_kept(tmp_path):
    records, keep = tmp_path / "pstore", tmp_path / "kept"
    records.mkdir()
    (records / "dmesg-efi-1").write_text(panic())
    said = witness_child.work(request(records, keep), None)
    assert [row[1] for row in said["rows"]] == [reset.P_PANIC]
    assert [p.read_text() for p in keep.iterdir()] == [panic()]
    assert (records / "dmesg-efi-1").exists(), "no pstore: nobody waits for its room"
    assert witness_child.work(request(records, keep, seen=said["seen"]), None)["rows"] == []


def test_it_is_cleared_where_it_is_pstore_and_only_after_a_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(pstore, "_is_pstore", lambda _: True)
    records = tmp_path / "pstore"
    records.mkdir()
    (records / "dmesg-efi-1").write_text(panic())
    (tmp_path / "file").write_text("")
    witness_child.work(request(records, tmp_path / "file" / "kept"), None)
    assert (records / "dmesg-efi-1").exists(), "no copy could be made"
    witness_child.work(request(records, tmp_path / "kept", clear=False), None)
    assert (records / "dmesg-efi-1").exists()
    witness_child.work(request(records, tmp_path / "kept"), None)
    assert not list(records.iterdir())


def test_at_the_first_boot_old_records_are_history(tmp_path):
    (tmp_path / "dmesg-efi-1").write_text(panic())
    said = witness_child.work(request(tmp_path, tmp_path / "kept", first=True), None)
    assert said["rows"] == []
    assert len(said["seen"]) == 1


FORMS = [
    (b"\0\0\x10\x20", "u32be", "", "0x1020"),
    (b"\x20\x10\0\0", "u32le", "", "0x1020"),
    (b"\0\0", "u32be", "", None),
    (b"watchdog reset\nmore\n", "text", "", "watchdog reset"),
    (b"# GRUB Environment Block\nA_TRY=1\nORDER=A B\n####", "env", "A_TRY", "1"),
    (b"\x12\x34\x56\x78bootcount=2\0upgrade_available=1\0\0", "env", "bootcount", "2"),
    (b"\x12\x34\x56\x78\x01bootcount=2\0\0", "env", "bootcount", "2"),
    (b"x=1\n", "env", "bootcount", None),
]


@pytest.mark.parametrize(("raw", "form", "field", "value"), FORMS, ids=[f"{f[1]} {f[3]}" for f in FORMS])
def test_registers_and_boot_loaders_are_read_in_their_form(raw, form, field, value):
    assert witness_child.value_of(raw, form, field) == value


def test_a_source_that_cannot_be_read_is_left_out(tmp_path):
    sources = [["gone", str(tmp_path / "gone"), "text", "", 0, [["1", 1]], "reason", 0], ["folder", str(tmp_path), "text", "", 0, [], "reason", 0]]
    assert witness_child.work(request(tmp_path, tmp_path / "kept", sources=sources), None)["rows"] == []


def test_a_panic_is_why_the_box_booted(dog_box):
    box = dog_box().start()
    box.kill()
    (box.pstore / "dmesg-efi-1").write_text(panic())
    box.boot()
    verdict = box.verdict()
    assert verdict.text == "panic"
    assert any("Fatal exception in interrupt" in says for says in verdict.seen)
    until(lambda: os.listdir(f"{box.layout.guard}/pstore"), 5, "the copy")
    box.cut()
    assert box.verdict().text == "unknown (power loss?)", "the same record is no news"
