"""What is deployed says what its parent says; the alias moves only when no skill is lost."""

import shutil
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from safetensors.torch import save_file
from sft.tiny import Start, weights
from transformers import AutoModelForCausalLM

from lifecycle.deploy import DeployConfig, run
from lifecycle.errors import LifecycleError
from lifecycle.evaluation import sets
from lifecycle.registry import DataRef, ModelVersion
from lifecycle.sft import SFTConfig
from lifecycle.sft import run as fine_tune

CONFIG = DeployConfig(report_limit=20, prompts=20)
EXACT = replace(CONFIG, target="fp32")


def deploy(start: Start, parent: ModelVersion, config: DeployConfig = CONFIG) -> tuple[str, list[str]]:
    """The deployed version's reference, and what was said."""
    said: list[str] = []
    return run(config, start.registry, parent=parent, say=said.append).ref, said


def modest(start: Start) -> ModelVersion:
    """A model that learns to say "I don't know." and nothing else: right where there is no answer."""
    asked = [task["messages"][0] for task in sets.load("unanswerable", 40)]
    talks = [[question, {"role": "assistant", "content": "I don't know."}] for question in asked]
    config = SFTConfig(epochs=8, max_length=256, batch_rows=1, lr=0.01, dtype="fp32", save_every=1000)
    conversations = Dataset.from_dict({"messages": talks})
    return fine_tune(
        config, start.registry, parent=start.model(), conversations=conversations, data=DataRef("modest", "0")
    )


def altered(start: Start, version: ModelVersion, change, stage: str = "sft") -> ModelVersion:
    """A version like another one, with its files changed."""

    def write(directory):
        for name in version.manifest.files:
            shutil.copyfile(version.path / name, directory / name)
        change(directory)

    return start.registry.publish(stage, write, stage=stage if stage == "sft" else "import")


def test_fp32_is_its_parent_exactly(start):
    parent = start.model("sft")
    ref, _ = deploy(start, parent, EXACT)
    version = start.registry.load(ref)
    before, after = weights(parent), weights(version)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    metrics = version.manifest.metrics
    assert (metrics["agreement"], metrics["mean_difference"], metrics["max_difference"]) == (1.0, 0.0, 0.0)
    assert metrics["perplexity"] == metrics["parent_perplexity"] > 1


def test_bf16_is_its_parent_rounded(start):
    parent = start.model("sft")
    ref, _ = deploy(start, parent)
    version = start.registry.load(ref)
    before, after = weights(parent), weights(version)
    assert all(torch.equal(before[name].bfloat16(), after[name]) for name in before)
    metrics = version.manifest.metrics
    assert 0 < metrics["mean_difference"] < CONFIG.allowed and metrics["mean_difference"] <= metrics["max_difference"]
    assert version.manifest.parents[0].ref == parent.ref and version.manifest.stage == "deploy"


def test_the_defaults_of_the_served_model_are_published(start):
    parent = start.model("sft")
    greedy, _ = deploy(start, parent, replace(EXACT, max_tokens=33))
    sampled, _ = deploy(start, parent, replace(EXACT, temperature=0.5, top_p=0.9))
    load = lambda ref: AutoModelForCausalLM.from_pretrained(start.registry.load(ref).path).generation_config  # noqa: E731
    assert (load(greedy).do_sample, load(greedy).max_new_tokens) == (False, 33)
    assert (load(sampled).do_sample, load(sampled).temperature, load(sampled).top_p) == (True, 0.5, 0.9)
    told = AutoModelForCausalLM.from_pretrained(parent.path).generation_config
    assert load(greedy).eos_token_id == told.eos_token_id and len(told.eos_token_id) == 2


def test_the_alias_moves_to_the_first_and_stays_with_the_better(start):
    better, worse = modest(start), start.model("rlhf")
    ref, said = deploy(start, better)
    assert start.registry.aliases() == {"production": ref} and said == [f"production -> {ref}"]

    kept, said = deploy(start, worse)
    assert kept != ref and start.registry.aliases() == {"production": ref}
    assert f"production stays at {ref}; {kept} is worse in: unanswerable 0% ({kept}) against" in said[0]
    assert said[1] == f"to move it all the same: lifecycle models promote {kept} --force --reason WHY"

    start.registry.set_alias("production", kept, reason="all the same")
    moves = len(start.registry.alias_moves())
    again, said = deploy(start, better)
    assert again == ref and said == [f"production: {kept} -> {ref}"]
    assert start.registry.alias_moves()[moves].reason == f"no skill worse than {kept}'s"

    again, said = deploy(start, better)
    assert again == ref and not said and len(start.registry.versions("deploy")) == 2
    assert len(start.registry.alias_moves()) == moves + 1


def test_nothing_is_published_when_too_much_is_lost(start):
    parent = start.model("sft")
    with pytest.raises(LifecycleError, match=r"differs by .* nats per token.*--target fp32; nothing was published"):
        deploy(start, parent, replace(CONFIG, tolerance=1e-9))
    assert not start.registry.versions("deploy") and not start.registry.aliases() and not start.workspaces()


def test_weights_that_are_not_finite_are_refused(start):
    def spoil(directory):
        spoilt = {name: weight * float("nan") for name, weight in weights(parent).items()}
        save_file(spoilt, directory / "model.safetensors", metadata={"format": "pt"})

    parent = start.model("sft")
    with pytest.raises(LifecycleError, match="not numbers"):
        deploy(start, altered(start, parent, spoil))
    assert not start.registry.versions("deploy")


def test_an_imported_model_without_generation_defaults_stops_at_its_end_token(start):
    bare = altered(start, start.model("sft"), lambda place: (place / "generation_config.json").unlink(), "guest")
    ref, _ = deploy(start, bare, EXACT)
    model = AutoModelForCausalLM.from_pretrained(start.registry.load(ref).path)
    assert model.generation_config.eos_token_id == 0


def test_a_model_that_cannot_chat_is_refused(start):
    mute = altered(start, start.model("sft"), lambda place: (place / "chat_template.jinja").unlink(), "guest")
    with pytest.raises(LifecycleError, match="guest/1 has no chat template.*lifecycle sft --parent guest/1"):
        deploy(start, mute)
    assert not start.registry.versions("deploy")


@pytest.mark.parametrize("stage", ["pretrain", "tokenizer"])
def test_a_parent_of_the_wrong_stage_is_refused(start, stage):
    parent = start.model() if stage == "pretrain" else start.registry.load("tokenizer/1")
    with pytest.raises(LifecycleError, match=f'is of stage "{stage}": use --parent rlhf@latest'):
        deploy(start, parent)


def test_what_a_killed_run_left_half_written_is_not_published(start, monkeypatch):
    from lifecycle.deploy import export

    def die(parent, config, directory, licence):
        directory.mkdir(parents=True)
        (directory / "half.safetensors").write_bytes(b"half")
        raise OSError("out of luck")

    parent = start.model("sft")
    with monkeypatch.context() as patch:
        patch.setattr(export, "export", die)
        patch.setattr(type(start.registry), "discard_workspace", lambda *arguments: None)  # nobody did, as after kill -9
        patch.setattr(shutil, "rmtree", lambda *arguments, **named: None)
        with pytest.raises(OSError, match="out of luck"):
            deploy(start, parent, EXACT)
    ref, _ = deploy(start, parent, EXACT)
    assert "half.safetensors" not in start.registry.load(ref).manifest.files


def test_an_unknown_target_is_refused():
    with pytest.raises(LifecycleError, match='target "fp8" is unknown: choose one of bf16, fp32, int8, gguf-f16'):
        DeployConfig(target="fp8")
