"""A run publishes one plain checkpoint; interrupted and resumed it publishes the same one, bit for bit."""

import json
import signal
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from lifecycle import adapters, versions
from lifecycle.errors import LifecycleError
from lifecycle.sft import SFTConfig, run
from lifecycle.world.conversations import sft_conversations

from .tiny import WORLD, Start, pressing_ctrl_c, same, weights

CONFIG = SFTConfig(max_length=256, batch_rows=2, dtype="fp32", save_every=4)
LORA = replace(CONFIG, method="lora", lora_rank=4, lora_alpha=16, lr=0.05)
ADAPTER = replace(LORA, method="adapter")


def interrupt(start: Start, monkeypatch, step: int, config: SFTConfig = CONFIG) -> None:
    """A run that somebody stops with Ctrl-C after that step, whichever loop it runs in."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        pressing_ctrl_c(patch, step)
        fine_tune(start, config, on_step=lambda record: record.step == step and signal.raise_signal(signal.SIGINT))


def fine_tune(start: Start, config: SFTConfig = CONFIG, **arguments):
    conversations, data = sft_conversations(WORLD)
    inputs = {"parent": None, "conversations": conversations, "data": data, **arguments}
    inputs["parent"] = inputs["parent"] or start.registry.load("pretrain/1")
    return run(config, start.registry, **inputs)


@pytest.fixture
def start(start) -> Start:
    start.model("pretrain")
    return start


@pytest.fixture(scope="module")
def uninterrupted(template, tmp_path_factory) -> dict:
    """What a run publishes when nothing gets in its way, by method."""
    alone = template.copy(tmp_path_factory.mktemp("uninterrupted") / "registry")
    alone.model("pretrain")
    return {config.method: fine_tune(alone, config) for config in (CONFIG, LORA, ADAPTER)}


@pytest.mark.parametrize("config", [CONFIG, LORA], ids=["full", "lora"])
def test_a_run_learns_and_publishes_a_plain_checkpoint(uninterrupted, config):
    version = uninterrupted[config.method]
    assert version.manifest.stage == "sft" and version.manifest.parents[0].ref == "pretrain/1"
    losses = [entry["loss"] for entry in versions.read_log(version) if "loss" in entry]
    assert losses[-1] < losses[0]
    assert 0 < version.manifest.metrics["token_accuracy"] < 1
    assert not [file for file in version.manifest.files if "adapter" in file]
    model, report = AutoModelForCausalLM.from_pretrained(version.path, output_loading_info=True)
    assert not any(report.values()), report
    tokenizer = AutoTokenizer.from_pretrained(version.path)
    assert tokenizer.eos_token == "<|im_end|>" and model.generation_config.eos_token_id
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()


def test_lora_changes_what_its_adapters_reach_and_the_rows_of_control_tokens_and_nothing_else(uninterrupted, start):
    before, after = weights(start.registry.load("pretrain/1")), weights(uninterrupted["lora"])
    assert before.keys() == after.keys()
    control = set(AutoTokenizer.from_pretrained(uninterrupted["lora"].path).get_added_vocab().values())
    for name in before:
        if "embed" in name:
            changed = {row for row, (one, other) in enumerate(zip(before[name], after[name], strict=True)) if not torch.equal(one, other)}
            assert changed <= control and len(changed) > 2, changed
        else:
            assert torch.equal(before[name], after[name]) == ("_proj" not in name), name


def test_an_adapter_is_published_alone_and_merges_into_what_its_weights_say(uninterrupted, start):
    version = uninterrupted["adapter"]
    assert (version.ref, version.manifest.stage, version.manifest.parents[0].ref) == ("adapter/1", "adapter", "pretrain/1")
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= version.manifest.files.keys()
    assert not {"config.json", "model.safetensors"} & version.manifest.files.keys()
    assert json.loads((version.path / "adapter_config.json").read_text())["base_model_name_or_path"] == "pretrain/1"
    base = AutoModelForCausalLM.from_pretrained(start.registry.load("pretrain/1").path, dtype=torch.float32)
    put_on = PeftModel.from_pretrained(base, version.path)
    expected = adapters.checkpoint_weights(put_on)
    merged = put_on.merge_and_unload().state_dict()
    for name, weight in weights(start.registry.load("pretrain/1")).items():
        torch.testing.assert_close(merged[name], expected[name])
        assert torch.equal(merged[name], weight) == ("_proj" not in name), name


def test_an_adapter_is_no_parent_for_the_stages_that_need_a_model(uninterrupted, start):
    with pytest.raises(LifecycleError, match='is of stage "adapter": use --parent pretrain@latest'):
        fine_tune(start, parent=uninterrupted["adapter"])


@pytest.mark.parametrize("config", [CONFIG, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("step", [1, 5])
def test_interrupted_and_resumed_equals_uninterrupted(start, uninterrupted, monkeypatch, config, step):
    interrupt(start, monkeypatch, step, config)
    assert not start.registry.versions("sft") and len(start.workspaces()) == 1
    version = fine_tune(start, config)
    assert same(weights(version), weights(uninterrupted[config.method]))
    assert version.manifest.metrics["steps"] == uninterrupted[config.method].manifest.metrics["steps"]
    assert not start.workspaces()


def test_interrupted_after_the_last_step_it_only_publishes(start, uninterrupted, monkeypatch):
    interrupt(start, monkeypatch, uninterrupted["full"].manifest.metrics["steps"])
    assert same(weights(fine_tune(start)), weights(uninterrupted["full"]))


def test_a_trainer_of_trl_that_has_only_to_publish_takes_no_more_steps(start, uninterrupted, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(type(start.registry), "publish", lambda *arguments, **named: (_ for _ in ()).throw(OSError("no room")))
        with pytest.raises(OSError, match="no room"):
            fine_tune(start, LORA)
    (workspace,) = start.workspaces()
    spent = json.loads((workspace / "costs.json").read_text())
    version = fine_tune(start, LORA)
    assert same(weights(version), weights(uninterrupted["lora"]))
    steps = [[entry["step"] for entry in versions.read_log(one)] for one in (version, uninterrupted["lora"])]
    assert steps[0] == steps[1]
    assert version.manifest.cost["wall_seconds"] >= spent["wall_seconds"] and version.manifest.cost["cpu_seconds"] >= spent["cpu_seconds"]


def test_a_checkpoint_that_was_cut_short_is_passed_over(start, uninterrupted, monkeypatch):
    interrupt(start, monkeypatch, 3, LORA)
    (workspace,) = start.workspaces()
    half = workspace / "checkpoints" / "checkpoint-4"  # what a killed process leaves: the state is written last
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"half")
    assert same(weights(fine_tune(start, LORA)), weights(uninterrupted["lora"]))


def test_killed_between_checkpoints_it_goes_on_from_the_last_one(start, uninterrupted):
    def die(record):
        if record.step == 6:
            raise OSError("out of luck")

    with pytest.raises(OSError):
        fine_tune(start, on_step=die)
    seen = []
    version = fine_tune(start, on_step=lambda record: seen.append(record.step))
    assert seen[0] == CONFIG.save_every + 1
    assert same(weights(version), weights(uninterrupted["full"]))
    assert [entry["step"] for entry in versions.read_log(version)] == list(range(1, seen[-1] + 1))


def test_a_model_that_the_decoder_cannot_hold_learns_with_trl(start):
    shape = dict(vocab_size=420, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    guest = Qwen2ForCausalLM(Qwen2Config(**shape, num_key_value_heads=2))
    words = versions.load_tokenizer(start.registry.load("tokenizer/1"))

    def write(directory):
        guest.save_pretrained(directory)
        words.save_pretrained(directory)

    parent = start.registry.publish("guest", write, stage="import")
    version = fine_tune(start, parent=parent, on_step=lambda record: pytest.fail("in our own loop"))
    losses = [entry["loss"] for entry in versions.read_log(version) if "loss" in entry]
    assert losses[-1] < losses[0]
    assert AutoModelForCausalLM.from_pretrained(version.path).config.model_type == "qwen2"


def test_a_run_that_is_published_is_not_repeated(start, monkeypatch):
    first = fine_tune(start)
    with monkeypatch.context() as patch:
        patch.setattr("lifecycle.sft.train.train", lambda *arguments: pytest.fail("trained again"))
        assert fine_tune(start).ref == first.ref == "sft/1"
    assert fine_tune(start, replace(CONFIG, seed=1)).ref == "sft/2"
    assert fine_tune(start, parent=first).manifest.parents[0].ref == "sft/1"


def test_a_loss_that_is_not_finite_publishes_nothing(start):
    with pytest.raises(LifecycleError, match=r"the loss is (nan|inf) .*at step \d+; nothing was published.*--set lr="):
        fine_tune(start, replace(CONFIG, lr=1e38, matrix_lr=1e38, warmup=0))
    assert not start.registry.versions("sft")


def test_weights_lost_in_the_very_last_step_are_not_published(start):
    with pytest.raises(LifecycleError, match="the weights are not finite after the last step; nothing was published"):
        fine_tune(start, replace(CONFIG, lr=1e38, matrix_lr=1e38, warmup=0, epochs=0.01))
    assert not start.registry.versions("sft")


def test_a_parent_of_the_wrong_stage_is_refused(start):
    with pytest.raises(LifecycleError, match='but tokenizer/1 is of stage "tokenizer": use --parent pretrain@latest'):
        fine_tune(start, parent=start.registry.load("tokenizer/1"))


def test_the_log_is_one_json_object_a_line(uninterrupted):
    path = uninterrupted["full"].path / versions.LOG
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()][0] == 1
