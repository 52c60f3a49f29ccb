"""PackedTorchBackend: the logits of packed, chunked, paged sequences are those of each sequence alone."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from serving.application.ports import SequenceSlice
from serving.infrastructure.torch_backend import PackedTorchBackend, UnsupportedArchitecture

from .conftest import SIZE
from .support import VOCAB

MORE_FAMILIES = {
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZE, head_dim=8, sliding_window=8, attn_logit_softcapping=2.0)),
    "gpt-oss": lambda: GptOssForCausalLM(
        GptOssConfig(**SIZE, head_dim=8, sliding_window=8, num_local_experts=2, num_experts_per_tok=1)
    ),
}


def alone(model, tokens):
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    model.set_attn_implementation(before)
    return logits


def check_random_chunks(model, seed):
    """Four sequences advance by random amounts in the same steps, in scattered blocks, until all are computed."""
    rng = random.Random(seed)
    backend = PackedTorchBackend(model, num_blocks=64, block_size=4)
    blocks = rng.sample(range(64), 64)
    sequences = [[rng.randrange(VOCAB) for _ in range(rng.randint(5, 40))] for _ in range(4)]
    expected = [alone(model, tokens) for tokens in sequences]
    tables = [[blocks.pop() for _ in range(-(-len(tokens) // 4))] for tokens in sequences]
    computed = [0] * 4
    while any(done < len(tokens) for done, tokens in zip(computed, sequences, strict=True)):
        batch, wanted = [], []
        for which in rng.sample(range(4), 4):
            left = len(sequences[which]) - computed[which]
            count = min(left, rng.choice((0, 1, 1, 2, 9)))
            if not count:
                continue
            start, stop = computed[which], computed[which] + count
            num_logits = min(count, rng.choice((0, 1, 1, 3)))
            batch.append(SequenceSlice(str(which), sequences[which][start:stop], start, tables[which], num_logits))
            wanted += expected[which][stop - num_logits : stop]
            computed[which] = stop
        if batch:
            logits = backend.execute(batch)
            assert logits.shape == (len(wanted), VOCAB)
            if wanted:
                torch.testing.assert_close(logits, torch.stack(wanted), atol=2e-4, rtol=1e-4)


def test_any_mixture_of_chunks_gives_the_same_logits(any_model):
    for seed in range(3):
        check_random_chunks(any_model, seed)


@pytest.mark.parametrize("family", MORE_FAMILIES)
def test_soft_caps_sinks_and_windows_are_respected(family):
    torch.manual_seed(2)
    model = MORE_FAMILIES[family]().eval()
    for name, parameter in model.named_parameters():
        if "sinks" in name:
            torch.nn.init.normal_(parameter)
    check_random_chunks(model, 0)


def test_running_a_step_twice_changes_nothing(model):
    backend = PackedTorchBackend(model, num_blocks=8, block_size=4)
    first = SequenceSlice("a", [1, 2, 3, 4, 5], 0, [3, 5], 1)
    then = SequenceSlice("a", [6], 5, [3, 5], 1)
    backend.execute([first])
    once = backend.execute([then])
    backend.execute([first])
    torch.testing.assert_close(backend.execute([then]), once)


def test_a_sequence_that_overflows_spoils_nobody_else(model):
    poisoned = type(model)(model.config).eval()
    poisoned.load_state_dict(model.state_dict())
    poisoned.model.embed_tokens.weight.data[7] = float("inf")
    backend = PackedTorchBackend(poisoned, num_blocks=8, block_size=4)
    mates = [[1, 2, 3, 4, 5, 6, 8, 9, 10], [11, 12]]
    tables = [[1, 2, 3], [4]]
    backend.execute(
        [SequenceSlice("poison", [7, 7, 7], 0, [0], 1)]
        + [SequenceSlice(str(i), tokens[:-1], 0, tables[i], 0) for i, tokens in enumerate(mates)]
    )
    # The shorter mate is padded with block 0, which belongs to the poison; then a newcomer inherits that block.
    decodes = [SequenceSlice(str(i), tokens[-1:], len(tokens) - 1, tables[i], 1) for i, tokens in enumerate(mates)]
    logits = backend.execute([*decodes, SequenceSlice("poison", [7], 3, [0], 1)])
    expected = torch.stack([alone(model, tokens)[-1] for tokens in mates])
    torch.testing.assert_close(logits[:2], expected, atol=2e-4, rtol=1e-4)
    assert not logits[2].isfinite().all()
    newcomer = backend.execute([SequenceSlice("new", [13], 0, [0], 1)])
    torch.testing.assert_close(newcomer[0], alone(model, [13])[-1], atol=2e-4, rtol=1e-4)


def test_bfloat16_is_near_float32(model):
    half = type(model)(model.config).eval()
    half.load_state_dict(model.state_dict())
    backend = PackedTorchBackend(half.to(torch.bfloat16), num_blocks=8, block_size=4)
    logits = backend.execute([SequenceSlice("a", list(range(9)), 0, [1, 2, 3], 1)])[0].float()
    expected = alone(model, list(range(9)))[-1]
    assert (logits - expected).abs().max() < 0.1 * expected.abs().max()


def test_the_pool_takes_the_memory_it_was_given(model):
    # 2 layers x (keys + values) x 2 heads x 8 dimensions x 4 bytes x 16 tokens = 4096 bytes a block
    assert PackedTorchBackend(model, block_size=16, kv_bytes=10 * 4096).num_blocks == 10


@pytest.mark.parametrize(
    "make",
    [
        lambda: BloomForCausalLM(BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4)),
        lambda: MambaForCausalLM(MambaConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2)),
    ],
    ids=["bloom", "mamba"],
)
def test_an_architecture_that_would_mix_sequences_up_is_refused(make):
    with pytest.raises(UnsupportedArchitecture, match="AttentionInterface"):
        PackedTorchBackend(make())


def test_a_layer_that_looks_across_sequences_is_refused(model):
    """An attention that uses the plug while something beside it does not: half of a recurrent hybrid."""
    mixed = type(model)(model.config).eval()
    mixed.model.layers[0].mlp.register_forward_hook(lambda module, args, output: output.cumsum(1))
    with pytest.raises(UnsupportedArchitecture, match="packed"):
        PackedTorchBackend(mixed)
