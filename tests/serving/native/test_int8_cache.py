"""Keys and values in int8: what is computed from them is exact, however a step is composed, and they take half the memory."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from lifecycle.errors import LifecycleError
from lifecycle.model.int8 import quantise_rows
from serving.application.ports import Plain, SequenceSlice
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.loading import load_backend
from serving.infrastructure.native.backend import NativeBackend
from serving.infrastructure.native.library import levels_here

from .models import CONFIGS, build
from .test_parity import LENGTHS, STEPS, native, reference, rms, slices, tables, tokens


def rounded(states: torch.Tensor) -> torch.Tensor:
    units, worth = quantise_rows(states)
    return units * worth


def attend_rounded(module, query, key, value, mask, **knobs):
    """transformers' own attention over keys and values in int8, each token and head on a scale of its own."""
    return sdpa_attention_forward(module, query, rounded(key), rounded(value), mask, **knobs)


AttentionInterface.register("rounded", attend_rounded)
AttentionMaskInterface.register("rounded", sdpa_mask)


@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
@pytest.mark.parametrize("name", CONFIGS)
def test_only_keys_and_values_are_rounded(name, level):
    """As far from transformers with rounded keys and values as transformers in bf16 is from itself, not further."""
    model = build(CONFIGS[name]())
    sequences, blocks = tokens(), tables()
    exact = reference(model, sequences)
    theirs = reference(copy.deepcopy(model).bfloat16(), sequences)
    model.set_attn_implementation("rounded")
    expected = reference(model, sequences)
    backend = native(model, level=level, int8_cache=True)
    errors = []
    for step in STEPS:
        got = backend.execute(slices(step, sequences, blocks))
        errors.append(got - torch.cat([expected[i][a:b] for i, a, b in step]))
    bf16 = rms([a - b for a, b in zip(exact, theirs, strict=True)])
    rounding = rms([a - b for a, b in zip(exact, expected, strict=True)])
    assert rounding > 0
    assert rms(errors) <= bf16 + rounding / 2, f"{rms(errors):.4f}; bf16 {bf16:.4f}, rounding {rounding:.4f}"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_sequence_gets_the_same_bits_alone_and_in_any_company(threads):
    model = build(CONFIGS["mistral, window"]())
    sequences, blocks = tokens(), tables()
    alone = native(model, threads=1, int8_cache=True)
    expected = [
        alone.execute([SequenceSlice("a", sequence, 0, list(range(10)), len(sequence))]) for sequence in sequences
    ]
    backend = native(model, threads=threads, int8_cache=True)
    for step in STEPS:
        got = backend.execute(slices(step, sequences, blocks))
        assert torch.equal(got, torch.cat([expected[i][a:b] for i, a, b in step]))


def test_tokens_ahead_are_those_of_single_steps():
    model = build(CONFIGS["llama"]())
    sequences, blocks = tokens(), [list(range(i * 12, (i + 1) * 12)) for i in range(len(LENGTHS))]
    single, ahead = native(model, int8_cache=True), native(model, int8_cache=True)
    whole = [(i, 0, length) for i, length in enumerate(LENGTHS)]
    for backend in (single, ahead):
        backend.execute(slices(whole, sequences, blocks))
    last = [[7]] * len(LENGTHS)
    for step in range(20):
        batch = [
            SequenceSlice(str(i), last[i][-1:], length + step, blocks[i], 1, Plain()) for i, length in enumerate(LENGTHS)
        ]
        found = single.execute(batch).tokens
        last = [[*tokens_, token] for tokens_, token in zip(last, found, strict=True)]
    batch = [SequenceSlice(str(i), [7], length, blocks[i], 1, Plain(), 19) for i, length in enumerate(LENGTHS)]
    assert ahead.execute(batch).tokens == [token for tokens_ in last for token in tokens_[1:]]


def test_the_same_memory_holds_nearly_twice_as_much():
    model = build(CONFIGS["qwen3"]())
    weights = model.state_dict()
    small, large = (
        NativeBackend(model.config, weights, kv_bytes=2**22, int8_cache=int8) for int8 in (False, True)
    )
    assert large.num_blocks > 1.9 * small.num_blocks


@pytest.mark.parametrize("knobs", [{"backend": "packed"}, {"dtype": "float32"}])
def test_where_the_kernels_do_not_compute_it_is_refused(knobs, tmp_path):
    build(CONFIGS["llama"]()).save_pretrained(tmp_path)
    config = ServingConfig(kv_cache_dtype="int8", num_blocks=8, device="cpu", **knobs)
    with pytest.raises(LifecycleError, match="only the native backend keeps keys and values in int8"):
        load_backend(tmp_path, config)


def test_the_setting_reaches_the_kernels(tmp_path):
    model = build(CONFIGS["llama"]())
    model.save_pretrained(tmp_path)
    plain, int8 = (
        load_backend(tmp_path, ServingConfig(kv_cache_dtype=kind, num_blocks=8, device="cpu"))
        for kind in ("auto", "int8")
    )
    prompt = SequenceSlice("a", tokens()[2], 0, [0, 1, 2], 77)
    assert not torch.equal(plain.execute([prompt]), int8.execute([prompt]))
