"""What training computes in: what the machine is faster in, unless it is told."""

import pytest
import torch

from lifecycle import hardware
from lifecycle.hardware import choose_arithmetic, choose_dtype

CPU = torch.device("cpu")


@pytest.fixture
def has_bf16(monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: True)
    monkeypatch.setattr(hardware, "_agreed", [])  # by tests before


@pytest.mark.parametrize(("faster", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_trains_in_what_it_is_faster_in_and_holds_what_it_serves_in_bf16(has_bf16, monkeypatch, faster, dtype):
    monkeypatch.setattr(hardware, "_cpu_prefers_bf16", lambda: faster)
    assert choose_arithmetic("auto", CPU) is dtype
    assert choose_dtype("auto", CPU) is torch.bfloat16


def test_what_was_asked_for_is_not_measured(has_bf16, monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_prefers_bf16", lambda: pytest.fail("measured"))
    assert choose_arithmetic("bf16", CPU) is torch.bfloat16
    assert choose_arithmetic("fp32", CPU) is torch.float32


@pytest.mark.parametrize(("slow", "prefers"), [(torch.bfloat16, False), (torch.float32, True)])
def test_the_products_decide(monkeypatch, slow, prefers):
    timed = clock_by_products(monkeypatch, slow)
    threads = torch.get_num_threads()
    assert hardware._cpu_prefers_bf16.__wrapped__(size=8) is prefers
    assert torch.get_num_threads() == threads
    assert set(timed) == {torch.bfloat16, torch.float32}


def clock_by_products(monkeypatch, slow):
    """A clock on which a product takes 1 second, and of `slow` 2; returns the products that were timed."""
    now, timed, product = [0.0], [], torch.mm

    def timed_product(a, b):
        timed.append(a.dtype)
        now[0] += 2 if a.dtype is slow else 1
        return product(a, b)

    monkeypatch.setattr(hardware.torch, "mm", timed_product)
    monkeypatch.setattr(hardware.time, "thread_time", lambda: now[0])
    return timed
