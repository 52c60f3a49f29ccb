"""Whose turn it is to compute."""

from __future__ import annotations

import threading

from serving.application.precedence import Precedence


def test_whoever_falls_silent_first_is_next_and_nobody_is_beside_another():
    precedence, order, inside, busy = Precedence(), [], threading.Semaphore(1), threading.Event()

    def compute(deadline: float) -> None:
        with precedence.turn(deadline):
            assert inside.acquire(blocking=False)
            order.append(deadline)
            inside.release()

    def waiting(count: int) -> None:
        while len(precedence._waiting) < count:
            busy.wait(0.001)

    threads = [threading.Thread(target=compute, args=(deadline,)) for deadline in (3.0, 1.0, 2.0, 1.0)]
    with precedence.turn(9.0):
        for count, thread in enumerate(threads, 1):
            thread.start()
            waiting(count)
    for thread in threads:
        thread.join()
    assert order == [1.0, 1.0, 2.0, 3.0]


def test_a_turn_that_failed_is_over():
    precedence = Precedence()
    for _ in range(2):
        try:
            with precedence.turn(0.0):
                raise RuntimeError
        except RuntimeError:
            pass
