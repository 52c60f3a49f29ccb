"""In our own loop a model learns from a conversation what it would learn from it in TRL's trainer, and from each of them once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from trl import SFTTrainer

from lifecycle import versions
from lifecycle.errors import LifecycleError
from lifecycle.model.checkpoint import written_out
from lifecycle.model.decoder import IGNORE
from lifecycle.sft.data import as_documents, tokenize
from lifecycle.sft.decoder import prepare, schedule
from lifecycle.sft.train import make_trainer
from lifecycle.training.batches import Position, batches, collate
from lifecycle.world.conversations import sft_conversations

from .test_data import CONFIG, TURN, spoken
from .tiny import WORLD


@pytest.fixture(scope="module")
def trainer(template, tmp_path_factory):
    """TRL's, with one conversation after the other in its rows."""
    start = template.copy(tmp_path_factory.mktemp("learning") / "registry")
    conversations, _ = sft_conversations(WORLD)
    return make_trainer(CONFIG, start.model("pretrain"), conversations, tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def rows(trainer) -> Dataset:
    conversations, _ = sft_conversations(WORLD)
    return tokenize(conversations, trainer.processing_class)


def test_loss_and_gradient_are_trls_on_the_same_conversations(trainer, rows):
    model, everything = trainer.model.eval(), trainer.data_collator([trainer.train_dataset[i] for i in range(len(trainer.train_dataset))])
    model.zero_grad()
    theirs = SFTTrainer.compute_loss(trainer, model, everything)
    theirs.backward()
    their_gradient = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()

    decoder, documents = written_out(model), as_documents(rows, CONFIG.max_length)
    batch = collate(documents, np.arange(len(documents.starts)))
    nats, right = decoder.score(batch.tokens, batch.targets, batch.lengths)
    (nats / batch.count).backward()
    torch.testing.assert_close(nats / batch.count, theirs)
    assert 0 <= right <= batch.count
    gradient = {name: weight.grad for name, weight in decoder.named_parameters()}
    assert gradient.keys() == their_gradient.keys()
    torch.testing.assert_close(gradient, their_gradient, rtol=1e-4, atol=1e-6)


def test_the_decoder_trains_the_very_weights_that_are_published(trainer):
    ours, theirs = dict(written_out(trainer.model).named_parameters()), dict(trainer.model.named_parameters())
    assert ours.keys() == theirs.keys() and all(ours[name] is theirs[name] for name in ours)


def test_every_conversation_is_learnt_from_once_an_epoch_and_only_what_the_assistant_says(trainer, rows):
    training = prepare(CONFIG, written_out(trainer.model), rows)
    tokenizer, seen = trainer.processing_class, []
    for batch, position in batches(training.documents, training.schedule.batching, Position()):
        if position.epoch:
            break
        lengths = batch.lengths.tolist()
        for ids, targets in zip(batch.tokens.split(lengths), batch.targets.split(lengths), strict=True):
            ids, targets = ids.tolist(), targets.tolist()
            targets = targets[: max(place for place, target in enumerate(targets) if target != IGNORE) + 1]
            whole = [*ids[: len(targets)], targets[-1]]
            marks = spoken(tokenizer, whole)[1:]
            assert targets == [token if mark else IGNORE for token, mark in zip(whole[1:], marks, strict=True)]
            seen.append(whole)
    expected = [ids[: max(np.flatnonzero(mask)) + 1] for ids, mask in zip(rows["input_ids"], rows["assistant_masks"], strict=True)]
    assert sorted(seen) == sorted(expected)


def test_what_is_cut_off_is_not_learnt_and_a_conversation_without_an_answer_left_is_left_out(trainer):
    long = [{"role": "user", "content": "Hi! " * 50}, TURN[1]]
    rows = tokenize(Dataset.from_dict({"messages": [list(TURN), long]}), trainer.processing_class)
    documents = as_documents(rows, 30)
    assert len(documents.starts) == 1 and documents.lengths.max() <= 30
    with pytest.raises(LifecycleError, match="--set max_length="):
        as_documents(rows.select([1]), 30)


def test_half_an_epoch_is_half_the_tokens_and_the_rate_ends_at_nothing():
    plan = schedule(replace(CONFIG, epochs=0.5, warmup=0.1), 10_000)
    assert plan.tokens == 5000
    rates = [plan.scale(step / 100) for step in range(101)]
    assert rates[0] > 0 and max(rates) == pytest.approx(1.0, abs=0.02) and rates[-1] == 0
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_model_with_something_the_decoder_lacks_is_not_written_out(trainer):
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    shape = dict(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48)
    assert written_out(LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2))) is not None
    assert written_out(LlamaForCausalLM(LlamaConfig(**shape, attention_bias=True))) is None
    assert written_out(Qwen2ForCausalLM(Qwen2Config(**shape))) is None
    assert written_out(versions.AutoModelForCausalLM.from_config(trainer.model.config)) is not None
