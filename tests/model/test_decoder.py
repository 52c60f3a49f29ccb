"""The decoder written out is transformers' Llama: same names, same logits, and a cache changes nothing."""

import math

import pytest
import torch
from transformers import LlamaForCausalLM

from lifecycle.errors import LifecycleError
from lifecycle.model.decoder import IGNORE, Decoder, attend
from lifecycle.model.presets import PRESETS, ModelConfig


def small(**changes) -> ModelConfig:
    shape = dict(
        vocab_size=64,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        intermediate_size=48,
        context_length=32,
    )
    return ModelConfig(**{**shape, **changes})


def random_tokens(*shape: int) -> torch.Tensor:
    return torch.randint(0, 64, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "changes", [{}, {"tie_embeddings": False}, {"num_kv_heads": 4}, {"num_kv_heads": 1, "rope_theta": 500.0}]
)
def test_same_weights_same_logits_as_transformers(changes):
    config = small(**changes)
    theirs = LlamaForCausalLM(config.to_llama()).eval()
    ours = Decoder(config, seed=3)
    ours.load_state_dict(theirs.state_dict())
    tokens = random_tokens(3, 17)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=1e-5, rtol=0)
        expected = theirs(tokens, labels=tokens).loss
        targets = torch.cat((tokens[:, 1:], torch.full((3, 1), IGNORE)), dim=1)
        torch.testing.assert_close(ours(tokens, targets), expected)
    theirs.load_state_dict(ours.state_dict())


def test_padding_at_the_end_changes_nothing_before_it():
    model = Decoder(small(), seed=1)
    long, short = random_tokens(2, 12)[0], random_tokens(2, 12)[1, :7]
    padded = torch.stack((long, torch.cat((short, torch.full((5,), 9)))))
    with torch.no_grad():
        together = model(padded)
        torch.testing.assert_close(together[0], model(long[None])[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(together[1, :7], model(short[None])[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generation_with_a_cache_equals_generation_without(temperature):
    model = Decoder(small(), seed=2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4.0)  # far from uniform, so that a wrong position would show
    runs = [
        model.generate(
            random_tokens(3, 5),
            20,
            temperature=temperature,
            use_cache=use_cache,
            generator=torch.Generator().manual_seed(7),
        )
        for use_cache in (True, False)
    ]
    assert torch.equal(*runs)
    assert runs[0].shape == (3, 25)


def test_generation_stops_at_a_stop_token_and_at_the_context_length():
    model = Decoder(small(), seed=2)
    prompt = random_tokens(1, 5)
    free = model.generate(prompt, 100)
    assert free.shape == (1, 32)
    stopped = model.generate(prompt, 100, stop=[int(free[0, 5])])
    assert stopped.tolist() == free[:, :6].tolist()


def test_generation_agrees_with_transformers():
    model = Decoder(small(), seed=5)
    theirs = LlamaForCausalLM(model.config.to_llama()).eval()
    theirs.load_state_dict(model.state_dict())
    prompt = random_tokens(2, 4)
    expected = theirs.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=10, do_sample=False, eos_token_id=None
    )
    assert torch.equal(model.generate(prompt, 10), expected)


def test_an_untrained_model_knows_nothing():
    model = Decoder(small(vocab_size=512), seed=0)
    tokens, targets = random_tokens(4, 16), random_tokens(8, 16)[4:]
    assert model(tokens, targets).item() == pytest.approx(math.log(512), rel=0.05)


@pytest.mark.parametrize("name", PRESETS)
def test_the_parameter_count_is_the_true_one(name):
    with torch.device("meta"):
        model = LlamaForCausalLM(PRESETS[name].to_llama())
    assert sum(weight.numel() for weight in model.parameters()) == PRESETS[name].num_parameters


def test_a_seed_decides_the_weights():
    first, again, other = (Decoder(small(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


@pytest.mark.parametrize("changes", [{"num_heads": 5}, {"num_kv_heads": 3}])
def test_a_shape_that_cannot_be_is_named(changes):
    with pytest.raises(LifecycleError, match="must be a multiple"):
        small(**changes)


def test_attention_written_out_is_the_fused_one_up_to_rounding():
    generator = torch.Generator().manual_seed(0)
    wide = [torch.randn(2, heads, 9, 8, generator=generator) for heads in (4, 2, 2)]
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (tensor.to(dtype, copy=True).requires_grad_() for tensor in wide)
        out = attend(q, k, v)
        out.square().sum().backward()
        results.append([out, q.grad, k.grad, v.grad])
    for exact, rounded in zip(*results, strict=True):
        torch.testing.assert_close(rounded.float(), exact, atol=0.1, rtol=0.05)


def test_bf16_autocast_gives_nearly_the_same_loss_and_gradient():
    model = Decoder(small(), seed=1)
    tokens, targets = random_tokens(4, 12), random_tokens(8, 12)[4:]
    exact = model(tokens, targets)
    exact.backward()
    gradient = model.model.layers[0].mlp.up_proj.weight.grad.clone()
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(tokens, targets)
    rounded.backward()
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=0.01)
    similarity = torch.cosine_similarity(
        gradient.flatten(), model.model.layers[0].mlp.up_proj.weight.grad.flatten(), dim=0
    )
    assert similarity > 0.99
