"""Batches without their padding: what TRL and transformers compute with it, and the same gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from sft.tiny import SHAPE
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, Qwen2Config, Qwen2ForCausalLM
from trl.trainer.utils import add_fused_lm_head

from lifecycle.model.decoder import IGNORE
from lifecycle.rlhf.unpadded import leave_padding_out

LENGTHS = (17, 5, 90, 6)
ANSWERS = (9, 2, 70, 0)
FIELDS = ("log_probs", "entropy", "mean_logits", "is_top1")


@pytest.fixture
def config():
    llama = SHAPE.to_llama()
    llama.pad_token_id = 1
    return llama


def batch(side: str, answers=ANSWERS) -> dict[str, torch.Tensor]:
    """Conversations of LENGTHS, padded on one side; the last tokens of each are its answer."""
    draw, longest = torch.Generator().manual_seed(0), max(LENGTHS) + 3
    ids = torch.full((len(LENGTHS), longest), 1)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORE)
    for row, (length, answer) in enumerate(zip(LENGTHS, answers, strict=True)):
        start = longest - length if side == "left" else 0
        ids[row, start : start + length] = torch.randint(2, SHAPE.vocab_size, (length,), generator=draw)
        mask[row, start : start + length] = 1
        labels[row, start + length - answer : start + length] = ids[row, start + length - answer : start + length]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def both(config, temperature: float, dtype: str = "fp32") -> tuple[LlamaForCausalLM, LlamaForCausalLM]:
    """A model as TRL computes it, and a copy without padding."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    other = copy.deepcopy(model)
    for one in (model, other):
        add_fused_lm_head(one, temperature=temperature, outputs=FIELDS)
    leave_padding_out(other, dtype=dtype, temperature=temperature)
    return model, other


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("side", ["left", "right"])
def test_log_probabilities_and_gradients_are_those_of_trl(config, side, temperature):
    given, losses = batch(side), []
    told, plain = [], both(config, temperature)
    for model in plain:
        out = model(**given, use_cache=False, fused_lm_head=True)
        weighted = (out.log_probs * torch.arange(out.log_probs.numel()).view_as(out.log_probs)).sum()
        weighted.backward()
        told.append(out)
        losses.append(weighted.item())
    for field in FIELDS:
        expected = getattr(told[0], field).float() * told[0].label_mask
        assert torch.allclose(getattr(told[1], field).float(), expected, atol=1e-4), field
    assert torch.equal(told[0].label_mask, told[1].label_mask)
    assert told[1].loss.item() == pytest.approx(told[0].loss.item(), rel=1e-5)
    for (name, one), (_, other) in zip(*(model.named_parameters() for model in plain), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-3 * one.grad.abs().max().item()), name


def test_in_bf16_they_are_those_of_fp32_but_for_rounding(config):
    model, other = both(config, 1.0, "bf16")
    given = batch("left")
    expected = model(**given, use_cache=False, fused_lm_head=True).log_probs
    assert torch.allclose(other(**given, fused_lm_head=True).log_probs, expected, atol=0.1)


def test_a_batch_in_which_nothing_is_learnt_has_a_gradient_of_zero(config):
    _, model = both(config, 1.0)
    found = model(**batch("left", answers=(0, 0, 0, 0)), fused_lm_head=True)
    assert not found.log_probs.any() and found.loss.item() == 0
    found.log_probs.sum().backward()
    assert not any(weight.grad is not None and weight.grad.any() for weight in model.parameters())


@pytest.mark.parametrize("side", ["left", "right"])
def test_scores_are_those_of_transformers(config, side):
    torch.manual_seed(0)
    config.num_labels = 1
    model = LlamaForSequenceClassification(config).eval()
    other = copy.deepcopy(model)
    leave_padding_out(other, dtype="fp32")
    given = batch(side)
    del given["labels"]
    expected, found = model(**given).logits, other(**given).logits
    assert found.shape == (len(LENGTHS), 1) and torch.allclose(found, expected, atol=1e-5)


def test_a_conversation_beyond_the_context_is_computed_as_before(config):
    model, other = both(config, 1.0)
    ids = torch.randint(2, SHAPE.vocab_size, (1, SHAPE.context_length + 8))
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids, "use_cache": False, "fused_lm_head": True}
    assert torch.equal(model(**given).log_probs, other(**given).log_probs)


def test_what_is_trained_are_the_parameters_of_the_model_itself(config):
    _, model = both(config, 1.0)
    before = model.state_dict().keys()
    model(**batch("right"), fused_lm_head=True).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()
    assert not model(**batch("right"), fused_lm_head=True).mean_logits.any()
    assert model.state_dict().keys() == before


def test_another_architecture_stays_as_it_is():
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2))
    forward = model.forward
    leave_padding_out(model, dtype="fp32")
    assert model.forward == forward
