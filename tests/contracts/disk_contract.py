# SPDX-License-Identifier: Apache-2.0
"""The contract of `ports.Disk`: what journal, spool and recorder rely on. The real folder and the power-cut storage both keep it."""

import errno

import pytest

from edgeheal.journal.ops import Allocate, Ended, Read, Remove, Replace, Sync, Write


class DiskContract:
    """Inherit, and give `make`: a disk that is empty; `again`: the same medium opened anew."""

    def make(self):
        raise NotImplementedError

    def again(self, disk):
        raise NotImplementedError

    @pytest.fixture
    def disk(self):
        return self.make()

    def run(self, disk, *ops) -> Ended:
        answers: list[Ended] = []
        ticket = disk.submit(list(ops), answers.append)
        assert ticket > 0
        ended = disk.wait(ticket, 5.0)
        assert answers == [ended]
        return ended

    def test_what_was_synced_is_there_when_opened_again(self, disk) -> None:
        assert self.run(disk, Allocate("a/one", 100), Write("a/one", 10, b"hello"), Sync("a/one")).errno == 0
        assert self.run(disk, Replace("a/two", b"whole")).errno == 0
        other = self.again(disk)
        assert other.names("a") == {"a/one": 100, "a/two": 5}
        assert other.read("a/one", 8, 9) == b"\0\0hello\0\0"
        assert other.read("a/two", 3, 100) == b"le"

    def test_a_batch_gives_what_its_last_read_read(self, disk) -> None:
        assert self.run(disk, Write("a/x", 0, b"abcdef"), Read("a/x", 0, 2), Read("a/x", 4, 99)).data == b"ef"

    def test_an_existing_file_is_kept_by_allocate_and_a_short_one_made_whole(self, disk) -> None:
        self.run(disk, Replace("a/x", b"abc"))
        assert self.run(disk, Allocate("a/x", 2)).errno == 0
        assert disk.names("a") == {"a/x": 3}
        assert self.run(disk, Allocate("a/x", 10)).errno == 0
        assert self.again(disk).read("a/x", 0, 10) == b"abc" + bytes(7)

    def test_removing_what_never_was_is_fine(self, disk) -> None:
        self.run(disk, Replace("a/x", b"abc"))
        assert self.run(disk, Remove("a/x"), Remove("a/x"), Remove("a/y")).errno == 0
        assert disk.names("a") == {}

    def test_there_is_no_such_folder_and_no_such_file(self, disk) -> None:
        assert disk.names("nowhere") == {}
        with pytest.raises(OSError) as caught:
            disk.read("nowhere/x", 0, 1)
        assert caught.value.errno == errno.ENOENT

    def test_answers_come_in_order_and_each_once(self, disk) -> None:
        answers: list[int] = []
        tickets = [disk.submit([Write("a/x", n, b"x")], lambda _, n=n: answers.append(n)) for n in range(5)]
        assert disk.wait(tickets[-1], 5.0) == disk_ended(answers)
        assert answers == [0, 1, 2, 3, 4]
        assert disk.wait(tickets[0], 0.01) is None


def disk_ended(answers: list[int]):
    """Anything that says well."""

    class Well:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Ended) and other.errno == 0

        __hash__ = None

    return Well()
