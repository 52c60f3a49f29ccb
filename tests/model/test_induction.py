"""The induction circuit is there before training, and the model is still a plain, untrained Llama."""

import math

import pytest
import torch
from transformers import LlamaForCausalLM

from lifecycle.errors import LifecycleError
from lifecycle.model.decoder import Decoder, rotate
from lifecycle.model.induction import wire_induction
from lifecycle.model.presets import ModelConfig

SHAPES = [{}, {"num_kv_heads": 2}, {"hidden_size": 256, "num_heads": 8, "num_kv_heads": 4}, {"tie_embeddings": False}]


def wired(**changes) -> Decoder:
    model = Decoder(ModelConfig(vocab_size=1024, **changes), seed=0)
    wire_induction(model, seed=0)
    return model


def attention_of(model: Decoder, layer: int, tokens: torch.Tensor) -> torch.Tensor:
    """Attention probabilities of one layer, [H, T, T], for one row of tokens [T]."""
    config, T = model.config, len(tokens)
    cos, sin = model.model.cos[:T, None], model.model.sin[:T, None]
    x = model.model.embed_tokens(tokens[None])
    for block in model.model.layers[:layer]:
        x, _ = block(x, cos, sin)
    block = model.model.layers[layer]
    x = block.input_layernorm(x)[0]
    q, k = (
        rotate(projection(x).view(T, -1, config.head_dim), cos, sin).transpose(0, 1)
        for projection in (block.self_attn.q_proj, block.self_attn.k_proj)
    )
    k = k.repeat_interleave(config.num_heads // config.num_kv_heads, dim=0)
    scores = q @ k.transpose(1, 2) / math.sqrt(config.head_dim)
    return scores.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf).softmax(dim=-1)


def random_tokens(count: int) -> torch.Tensor:
    return torch.randperm(1024, generator=torch.Generator().manual_seed(3))[:count]


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_the_first_layer_looks_one_and_two_positions_back(shape):
    probabilities = attention_of(wired(**shape), 0, random_tokens(60))
    for head, distance in ((0, 1), (1, 2)):
        seen = probabilities[head].diagonal(-distance)
        assert seen[2:].min() > 0.9  # of every token, whatever its embedding


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("head", "repeated", "after"), [(0, 39, 0), (1, 40, 1), (2, 38, 0)], ids=["the word before", "this word", "two words before"]
)
@torch.no_grad()
def test_the_second_layer_looks_at_where_a_word_stood(shape, head, repeated, after):
    """From position 40 at the word that stands at `repeated`, too, or at what follows it: with a fifth of its attention and more."""
    model, found = wired(**shape), []
    if head >= model.config.num_kv_heads:
        pytest.skip("its queries share the keys of another")
    for first in range(5, 35):
        tokens = random_tokens(60)
        tokens[repeated] = tokens[first]
        attention = attention_of(model, 1, tokens)[head * model.config.num_heads // model.config.num_kv_heads]
        found.append(attention[40, first + after])
    assert torch.stack(found).mean() > 0.2


@pytest.mark.parametrize("shape", [one for one in SHAPES if one.get("num_kv_heads", 4) == 4])
@torch.no_grad()
def test_a_head_tells_a_word_that_stood_before_from_one_that_did_not(shape):
    """The fourth: it looks where position 40's word stood before, for twice its share and more than when another stood there."""
    model = wired(**shape)
    head, again, never = 3 * model.config.num_heads // 4, [], []
    for first in range(5, 35):
        tokens = random_tokens(60)
        never.append(attention_of(model, 1, tokens)[head, 40, first])
        tokens[40] = tokens[first]
        again.append(attention_of(model, 1, tokens)[head, 40, first])
    assert torch.stack(again).mean() > 2 / 41
    assert torch.stack(again).mean() > 2 * torch.stack(never).mean()


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_it_is_as_ignorant_as_a_random_model(shape):
    model = wired(**shape)
    tokens = torch.randint(0, 1024, (8, 65), generator=torch.Generator().manual_seed(1))
    loss = model(tokens[:, :-1], tokens[:, 1:])
    assert loss == pytest.approx(math.log(1024), rel=0.05)


@torch.no_grad()
def test_it_is_transformers_llama():
    model = wired()
    theirs = LlamaForCausalLM(model.config.to_llama()).eval()
    theirs.load_state_dict(model.state_dict())
    tokens = random_tokens(50)[None]
    torch.testing.assert_close(model(tokens), theirs(tokens).logits, atol=1e-4, rtol=0)


def test_the_seed_decides():
    one, same, other = wired(), wired(), Decoder(ModelConfig(vocab_size=1024), seed=0)
    wire_induction(other, seed=1)
    assert torch.equal(one.model.layers[1].self_attn.q_proj.weight, same.model.layers[1].self_attn.q_proj.weight)
    assert not torch.equal(one.model.layers[1].self_attn.q_proj.weight, other.model.layers[1].self_attn.q_proj.weight)


def test_a_shape_without_room_says_so():
    with pytest.raises(LifecycleError, match="start=random"):
        wire_induction(Decoder(ModelConfig(num_layers=1)))
