"""Steps that fail: the guilty request ends with an error, the others get the answers they would have had alone."""

from __future__ import annotations

import pytest

from serving.infrastructure.torch_backend import PackedTorchBackend

from .support import collect, generate, prompts, request, running


class TooSmall:
    """A real backend on a device whose memory holds `most` tokens in one step, and none of a request with `poison`."""

    def __init__(self, model, most, error, poison=None):
        self._backend = PackedTorchBackend(model, num_blocks=64, block_size=4)
        self.most, self.error, self.poison = most, error, poison
        self.sizes: list[int] = []

    def execute(self, batch):
        self.sizes.append(sum(len(item.tokens) for item in batch))
        if self.sizes[-1] > self.most or any(self.poison in item.tokens for item in batch):
            raise self.error("no room")
        return self._backend.execute(batch)

    def __getattr__(self, name):
        return getattr(self._backend, name)


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


def on_a_cpu(_):
    """What torch raises there."""
    return RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: ...")


def answers(engine, asked):
    engine.pause()
    streams = [engine.submit(request(index, prompt)) for index, prompt in enumerate(asked)]
    engine.resume()
    return [collect(stream) for stream in streams]


@pytest.mark.parametrize("error", [MemoryError, OutOfMemoryError, on_a_cpu])
def test_out_of_memory_makes_steps_smaller_and_changes_no_answer(model, error):
    asked = prompts(20, 6)
    backend = TooSmall(model, 9, error)
    with running(model, backend=backend, max_num_seqs=4, max_num_batched_tokens=16) as engine:
        got = answers(engine, asked)
        assert engine.healthy() and engine.stats().kv_used == 0
    assert [answer.tokens for answer in got] == [generate(model, prompt) for prompt in asked]
    assert [size for size in backend.sizes if size > 9] == [16], "one failure is enough to learn from"


def test_a_single_request_too_large_for_a_step_is_computed_in_pieces(model):
    (prompt,) = prompts(21, 1)
    with running(model, backend=TooSmall(model, 8, MemoryError), max_num_seqs=1) as engine:
        assert answers(engine, [prompt * 2])[0].tokens == generate(model, prompt * 2)


def test_a_request_that_runs_out_of_memory_however_small_fails_alone(model):
    asked = [[1, 2, 3], [4, 60, 5], [6, 7, 8]]
    backend = TooSmall(model, 64, MemoryError, poison=60)
    with running(model, backend=backend) as engine:
        got = answers(engine, asked)
        assert got[1].end.reason == "error" and "MemoryError" in got[1].end.error
        assert [got[index].tokens for index in (0, 2)] == [generate(model, asked[index]) for index in (0, 2)]
        assert engine.healthy() and engine.stats().kv_used == 0
