"""Every stage, killed at a random moment and started again, ends with the very weights that it would have had."""

import multiprocessing
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_pipeline import MINIATURE

from lifecycle import pipeline
from lifecycle.registry import ModelRegistry, ModelVersion

pytestmark = pytest.mark.slow
STAGES = ("pretrain", "sft", "rlhf-reward", "rlhf-dpo", "rlhf", "deploy")
PATIENCE = 120.0  # seconds
CONFIG = replace(
    MINIATURE,
    pretrain=replace(MINIATURE.pretrain, checkpoint_every=1e-3),
    sft=replace(MINIATURE.sft, save_every=1),
    rlhf=replace(MINIATURE.rlhf, save_every=1, reward_steps=5, dpo_steps=5, grpo_steps=4),
)
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["lifecycle.trainers", "trl.trainer.dpo_trainer", "trl.trainer.grpo_trainer", "trl.trainer.reward_trainer"])


def run(root: Path) -> None:
    """The whole pipeline, with a random model's answers right now and then."""
    from lifecycle.rlhf import pairs

    pairs.verify = lambda check, answer: len(answer) % 2 == 0
    pipeline.run(CONFIG, ModelRegistry(root), "miniature")


def begun(root: Path) -> multiprocessing.Process:
    process = PROCESSES.Process(target=run, args=(root,))
    process.start()
    return process


def finish(root: Path) -> ModelRegistry:
    process = begun(root)
    process.join(PATIENCE)
    assert process.exitcode == 0
    return ModelRegistry(root)


def newest(registry: ModelRegistry, name: str) -> ModelVersion | None:
    return next(reversed(registry.versions(name)), None)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> ModelRegistry:
    return finish(tmp_path_factory.mktemp("whole") / "registry")


def test_the_same_run_again_has_the_same_content(uninterrupted, tmp_path):
    again = finish(tmp_path / "registry")
    for name in STAGES:
        assert newest(again, name).content == newest(uninterrupted, name).content, name
        assert newest(again, name).content is not None
    assert len({newest(again, name).content for name in STAGES}) == len(STAGES)


def test_killed_in_every_stage_it_ends_with_the_same_content(uninterrupted, tmp_path):
    root, rng, caught = tmp_path / "registry", random.Random(time.time_ns()), []
    for name in STAGES:
        process, registry = begun(root), ModelRegistry(root)
        while not list((root / ".work").glob(f"{name}-" + 12 * "[0-9a-f]")) and not newest(registry, name):
            assert process.is_alive(), name
            time.sleep(0.002)
        time.sleep(rng.uniform(0, newest(uninterrupted, name).manifest.seconds))
        process.kill()
        process.join()
        caught += [] if newest(registry, name) else [name]
    registry = finish(root)
    for name in STAGES:
        assert len(registry.versions(name)) == 1 and registry.verify(f"{name}/1") == []
        assert registry.load(f"{name}/1").content == newest(uninterrupted, name).content, (name, caught)
    assert not list((root / ".work").glob("*-*"))
