"""The stage publishes what it trained, says where it is from, and goes on where it was interrupted."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import pytest
import torch
from sft.tiny import WORLD, same, weights

from lifecycle import deploy
from lifecycle.errors import LifecycleError
from lifecycle.evaluation import report
from lifecycle.evaluation.seeing import SeeingAnswerer
from lifecycle.evaluation.sights import SETS, load
from lifecycle.see import SeeConfig, run
from lifecycle.see import stage as stage_module
from lifecycle.world.conversations import sft_conversations

CONFIG = SeeConfig(
    num_layers=1, hidden_size=32, num_heads=2, contrastive_pictures=16, contrastive_batch=8, align_pictures=8, pictures=24,
    batch=8, clips=0.2, save_every=2, dtype="fp32",
)  # fmt: skip


@pytest.fixture(scope="module")
def conversations():
    return dict(zip(("conversations", "data"), sft_conversations(WORLD), strict=True))


def test_a_run_is_published_with_both_parents_and_not_repeated(start, conversations, monkeypatch):
    parent = start.model("sft")
    version = run(CONFIG, start.registry, parent=parent, **conversations)
    assert version.ref == "see/1"
    assert [one.ref for one in version.manifest.parents] == ["sft/1", "encoder/1"]
    assert start.registry.verify("see/1") == [] == start.registry.verify("encoder/1")
    assert start.workspaces() == []
    seeing, encoder = weights(version), weights(start.registry.load("encoder/1"))
    assert all(torch.equal(seeing[f"model.vision_model.{name}"], weight) for name, weight in encoder.items())  # the tower stays as it was
    assert run(CONFIG, start.registry, parent=parent, **conversations).ref == "see/1"
    with monkeypatch.context() as patch:
        patch.setattr(stage_module, "code_hash", lambda: "another world")
        assert run(CONFIG, start.registry, parent=parent, **conversations).ref == "see/2"
    longer = run(dataclasses.replace(CONFIG, pictures=32), start.registry, parent=parent, **conversations)
    assert [one.ref for one in longer.manifest.parents] == ["sft/1", "encoder/1"]


def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(start, conversations, monkeypatch):
    parent = start.model("sft")
    whole = weights(run(CONFIG, start.registry, parent=parent, **conversations))
    (Path(start.registry.root) / "see").rename(start.registry.root.parent / "away")
    answer, calls = stage_module.answer, []

    def interrupted(seer, looked):
        calls.append(looked)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return answer(seer, looked)

    with monkeypatch.context() as patch:
        patch.setattr(stage_module, "answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(CONFIG, start.registry, parent=parent, **conversations)
    assert same(weights(run(CONFIG, start.registry, parent=parent, **conversations)), whole)


def test_the_report_card_of_a_version_that_sees_has_visual_skills_beside_blank_pictures(start, conversations):
    version = run(CONFIG, start.registry, parent=start.model("sft"), **conversations)
    card = report([version], limit=1)
    assert {*SETS, *(f"{name} (blank)" for name in SETS), "reading"} <= set(card.skills())
    assert "object (blank)" in card.to_markdown()


def test_deployed_it_sees_as_before(start, conversations):
    version = run(CONFIG, start.registry, parent=start.model("sft"), **conversations)
    deployed = deploy.run(deploy.DeployConfig(target="fp32", report_limit=1, prompts=9), start.registry, parent=version)
    tasks = load("object", 2)
    assert SeeingAnswerer(deployed.path).answer(tasks) == SeeingAnswerer(version.path).answer(tasks)
    with pytest.raises(LifecycleError, match="int8"):
        deploy.run(deploy.DeployConfig(target="int8", report_limit=1, prompts=9), start.registry, parent=version)


def test_only_a_model_that_chats_learns_to_see(start, conversations):
    with pytest.raises(LifecycleError, match="starts from"):
        run(CONFIG, start.registry, parent=start.model("pretrain"), **conversations)
