"""The loss over the answers alone is TRL's loss over everything with the rest masked."""

from dataclasses import replace

import pytest
import torch
from trl import SFTTrainer

from lifecycle.sft.train import make_trainer
from lifecycle.world.conversations import sft_conversations

from .test_data import CONFIG
from .tiny import WORLD


# Not "lora": TRL's own loss does not know the output layer once some of its rows are trained.
@pytest.mark.parametrize("method", ["full", "adapter"])
@pytest.mark.parametrize("items", [None, 1000])
def test_loss_and_gradient_are_trls(start, tmp_path, method, items):
    conversations, _ = sft_conversations(WORLD)
    trainer = make_trainer(replace(CONFIG, method=method), start.model("pretrain"), conversations, tmp_path)
    trainer.model.eval()  # no dropout in adapters
    batch = next(iter(trainer.get_train_dataloader()))
    found = {}
    for kind in (SFTTrainer, type(trainer)):
        trainer.model.zero_grad()
        loss = kind.compute_loss(trainer, trainer.model, dict(batch), num_items_in_batch=items)
        loss.backward()
        found[kind] = loss.detach(), [w.grad.clone() for w in trainer.model.parameters() if w.grad is not None]
    (theirs, their_gradient), (ours, our_gradient) = found.values()
    torch.testing.assert_close(ours, theirs)
    assert len(our_gradient) == len(their_gradient) > 0
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-4, atol=1e-6)


def test_a_batch_without_an_answer_teaches_nothing(start, tmp_path):
    conversations, _ = sft_conversations(WORLD)
    trainer = make_trainer(CONFIG, start.model("pretrain"), conversations, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    batch["labels"][:] = -100
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    assert loss.item() == 0 and all(not w.grad.any() for w in trainer.model.parameters() if w.grad is not None)
