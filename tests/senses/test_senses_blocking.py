# SPDX-License-Identifier: Apache-2.0
import os
import threading
import time

from drive import drive

from edgeheal.adapters.blocking import THREADS_MOST, Workers


def test_an_answer_comes_back_in_the_loops_own_thread():
    workers, got = Workers(), []
    assert workers.ask("a", lambda: threading.get_ident(), lambda v: got.append((v, threading.get_ident())))
    assert drive(workers, until=lambda: bool(got))
    assert got[0][0] != got[0][1] == threading.get_ident()
    assert workers.stuck_ns("a") == 0


def test_one_question_per_key_is_out_and_a_fault_is_an_answer():
    workers, got, go = Workers(), [], threading.Event()

    def fails():
        go.wait(5)
        raise OSError(5, "I/O error")

    assert workers.ask("a", fails, got.append)
    assert not workers.ask("a", fails, got.append)
    assert workers.stuck_ns("a") > 0
    go.set()
    assert drive(workers, until=lambda: bool(got))
    assert got[0].errno == 5
    assert workers.ask("a", lambda: 1 / 0, got.append)
    assert drive(workers, until=lambda: len(got) == 2)
    assert isinstance(got[1], OSError)


def test_fc_sto_3_a_call_that_never_returns_costs_its_own_thread_and_nothing_else():
    workers, got, never = Workers(), [], threading.Event()
    workers.ask("dead", lambda: never.wait(30), lambda v: got.append("dead"))
    for n in range(20):
        assert workers.ask(f"k{n}", lambda: None, lambda v, n=n: got.append(n))
        assert not workers.ask("dead", lambda: None, got.append)
    assert drive(workers, until=lambda: len(got) == 20, seconds=5)
    assert workers.threads() == 2
    never.set()
    assert drive(workers, until=lambda: "dead" in got)
    workers.ask("last", lambda: None, lambda v: got.append("last"))
    assert drive(workers, until=lambda: "last" in got)
    deadline = time.monotonic() + 5
    while workers.threads() > 1 and time.monotonic() < deadline:
        os.sched_yield()
    assert workers.threads() == 1


def test_the_number_of_threads_is_bounded_however_many_targets_are_dead():
    workers, never = Workers(), threading.Event()
    for n in range(2 * THREADS_MOST):
        workers.ask(f"dead{n}", lambda: never.wait(30), lambda v: None)
    drive(workers, until=lambda: workers.threads() == THREADS_MOST, seconds=6)
    assert workers.threads() == THREADS_MOST
    assert workers.due() == 0  # nothing spins while nobody can help
    never.set()
    assert drive(workers, until=lambda: not workers._out, seconds=5)


def test_nothing_wakes_us_at_rest():
    workers = Workers()
    got = []
    assert workers.due() == 0
    workers.ask("a", lambda: 1, got.append)
    assert drive(workers, until=lambda: bool(got))
    assert workers.due() == 0
