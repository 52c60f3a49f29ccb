"""The kernels compute what transformers computes, on every instruction set of this machine, however a step is composed."""

from __future__ import annotations

import copy

import pytest
import torch

from serving.application.ports import Plain, SequenceSlice
from serving.infrastructure.native.backend import NativeBackend
from serving.infrastructure.native.library import levels_here

from .models import CONFIGS, VOCAB, build

LENGTHS = (300, 5, 77, 1)
STEPS = (
    ((0, 0, 200),),
    ((1, 0, 3), (0, 200, 290), (2, 0, 60)),
    ((0, 290, 291), (1, 3, 4), (2, 60, 61), (3, 0, 1)),
    ((2, 61, 77), (0, 291, 300), (1, 4, 5)),
)
"""(sequence, from, to) in each step: a long prompt, prompts beside a later chunk, decodes, and all of it mixed."""
BLOCKS = 48


def tokens(seed: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(VOCAB, (length,), generator=generator).tolist() for length in LENGTHS]


def tables(seed: int = 2) -> list[list[int]]:
    """Scattered blocks for all sequences."""
    free = torch.randperm(BLOCKS, generator=torch.Generator().manual_seed(seed)).tolist()
    return [[free.pop() for _ in range(-(-length // 32))] for length in LENGTHS]


def slices(step, sequences, blocks, **kind) -> list[SequenceSlice]:
    return [SequenceSlice(str(i), sequences[i][a:b], a, blocks[i], b - a, **kind) for i, a, b in step]


def native(model, **knobs) -> NativeBackend:
    return NativeBackend(model.config, model.state_dict(), num_blocks=BLOCKS, **knobs)


@torch.no_grad()
def reference(model, sequences) -> list[torch.Tensor]:
    return [model(torch.tensor([sequence])).logits[0].float() for sequence in sequences]


def rms(differences: list[torch.Tensor]) -> float:
    return torch.cat([d.flatten() for d in differences]).square().mean().sqrt().item()


@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_no_further_from_fp32_than_those_of_transformers_in_bf16(name, level):
    model = build(CONFIGS[name]())
    sequences, blocks = tokens(), tables()
    exact = reference(model, sequences)
    theirs = reference(copy.deepcopy(model).bfloat16(), sequences)
    allowed = rms([a - b for a, b in zip(exact, theirs, strict=True)])
    backend = native(model, level=level)
    errors = []
    for step in STEPS:
        got = backend.execute(slices(step, sequences, blocks))
        expected = torch.cat([exact[i][a:b] for i, a, b in step])
        errors.append(got - expected)
        likeliest = backend.execute(slices(step, sequences, blocks, plain=Plain()))
        assert likeliest.tokens == got.argmax(-1).tolist()
        assert likeliest.scores == got.amax(-1).tolist()
    assert rms(errors) <= allowed, f"{rms(errors):.4f} where transformers in bf16 is {allowed:.4f} off"


@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_sequence_gets_the_same_bits_alone_and_in_any_company(level, threads):
    """Whole prompt or chunks, one thread or two, alone or beside others: the order of additions never changes."""
    model = build(CONFIGS["mistral, window"]())
    sequences = tokens()
    together = native(model, level=level, threads=threads)
    blocks = tables()
    mixed: list[list[torch.Tensor]] = [[] for _ in LENGTHS]
    for step in STEPS:
        got = together.execute(slices(step, sequences, blocks)).split([b - a for _, a, b in step])
        for (which, _, _), logits in zip(step, got, strict=True):
            mixed[which].append(logits.clone())
    alone = native(model, level=level, threads=1)
    for which, length in enumerate(LENGTHS):
        whole = alone.execute(slices([(which, 0, length)], sequences, tables(seed=3)))
        assert torch.equal(torch.cat(mixed[which]), whole)


@pytest.mark.parametrize("knobs", [{}, {"int8": True}, {"int8_cache": True}], ids=["bf16", "int8", "int8 cache"])
def test_a_sequence_that_overflows_leaves_nothing_behind_for_who_inherits_its_blocks(knobs):
    model = build(CONFIGS["llama"]())
    with torch.no_grad():  # token 7, and no other, points where projections are too large for a number
        model.model.embed_tokens.weight[:, 0] = 0
        model.model.embed_tokens.weight[7, 0] = 100
        for name in ("q_proj", "k_proj", "v_proj"):
            getattr(model.model.layers[0].self_attn, name).weight[:, 0] = 3e38
    backend = native(model, **knobs)
    sequences = [[7] * 33, [3, 4, 5]]
    assert not backend.execute([SequenceSlice("a", sequences[0], 0, [4, 9], 1)]).isfinite().all()
    heir = backend.execute([SequenceSlice("b", sequences[1], 0, [9], 3)])
    fresh = backend.execute([SequenceSlice("c", sequences[1], 0, [20], 3)])
    assert heir.isfinite().all() and torch.equal(heir, fresh)


def test_new_weights_are_used_from_the_next_step_on():
    first, second = build(CONFIGS["qwen2"]()), build(CONFIGS["qwen2"](), seed=1)
    backend, expected = native(first), native(second)
    step = slices(STEPS[0], tokens(), tables())
    assert not torch.equal(backend.execute(step), expected.execute(step))
    backend.update_weights(second.state_dict())
    assert torch.equal(backend.execute(step), expected.execute(step))


def test_the_worst_logit_of_a_deeper_model_is_no_worse_than_that_of_transformers_in_bf16():
    config = CONFIGS["llama, tied"]()
    config.num_hidden_layers, config.hidden_size, config.intermediate_size = 8, 192, 512
    model = build(config)
    sequences, step = tokens(), [(i, 0, length) for i, length in enumerate(LENGTHS)]
    exact = torch.cat(reference(model, sequences))
    theirs = torch.cat(reference(copy.deepcopy(model).bfloat16(), sequences))
    ours = native(model).execute(slices(step, sequences, tables()))
    assert (ours - exact).abs().max() <= (theirs - exact).abs().max()


def test_steps_longer_than_any_before_get_their_room():
    model = build(CONFIGS["llama"]())
    small, large = native(model), native(model)
    sequence = tokens()[0]
    large.execute([SequenceSlice("x", sequence, 0, list(range(10)), 1)])
    for start in range(0, 300, 50):
        one = small.execute([SequenceSlice("x", sequence[start : start + 50], start, list(range(10)), 1)])
    again = large.execute([SequenceSlice("x", sequence[250:], 250, list(range(10)), 1)])
    assert torch.equal(one, again)


def test_where_memory_for_a_longer_step_runs_out_there_is_room_for_as_many_rows_as_before(monkeypatch):
    model = build(CONFIGS["llama"]())
    backend = native(model)
    step = [SequenceSlice("x", tokens()[0], 0, list(range(10)), 1)]

    def scarce(*shape, **knobs):
        raise MemoryError("no room")

    with monkeypatch.context() as without_memory:
        without_memory.setattr(torch, "zeros", scarce)
        with pytest.raises(MemoryError):
            backend.execute(step)
    assert len(backend._buffers["residual"]) >= backend._rows, "or the kernels write beyond the end"
    assert torch.equal(backend.execute(step), native(model).execute(step))
