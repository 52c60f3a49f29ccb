"""A run publishes one version that others open; interrupted and resumed it publishes the same one, bit for bit."""

import dataclasses
import json
import signal
import subprocess
import sys

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lifecycle.errors import LifecycleError
from lifecycle.model.checkpoint import load_checkpoint

from .conftest import CONFIG, set_up


def weights(version):
    return load_file(version.path / "model.safetensors")


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def steps(version) -> list[dict]:
    records = [json.loads(line) for line in (version.path / "training_log.jsonl").read_text().splitlines()]
    return [record for record in records if "lr" in record]


def test_a_run_learns_and_publishes_what_transformers_opens(setting):
    seen = []
    version = setting(on_step=seen.append)
    assert version.ref == "pretrain/1"
    assert [parent.ref for parent in version.manifest.parents] == ["tokenizer/1"]
    log = steps(version)
    assert [record["step"] for record in log] == list(range(1, len(seen) + 1)) == [record.step for record in seen]
    assert log[-1]["loss"] < log[0]["loss"] - 0.7
    assert log[-1]["tokens"] == version.manifest.metrics["tokens"] >= CONFIG.tokens
    model, tokenizer = AutoModelForCausalLM.from_pretrained(version.path), AutoTokenizer.from_pretrained(version.path)
    tokens = tokenizer("Ann has", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, load_checkpoint(version.path)(tokens), atol=1e-5, rtol=0)
    assert not setting.workspaces()


def test_a_run_that_is_published_is_not_repeated(setting):
    first = setting()
    assert setting(on_step=lambda record: pytest.fail("trained again")).ref == first.ref
    assert setting(dataclasses.replace(CONFIG, seed=1)).ref == "pretrain/2"


def test_a_seed_decides_every_weight(setting, uninterrupted):
    assert same(weights(uninterrupted), weights(setting()))
    assert not same(weights(uninterrupted), weights(setting(dataclasses.replace(CONFIG, seed=1))))


@given(stops=st.sets(st.integers(1, 12), min_size=1, max_size=3))
@settings(max_examples=4, deadline=None, phases=[Phase.generate])
def test_interrupted_and_resumed_equals_uninterrupted(uninterrupted, tmp_path_factory, stops):
    broken, remaining = set_up(tmp_path_factory.mktemp("broken")), set(stops)

    def stop(record):
        if record.step in remaining:
            remaining.discard(record.step)
            signal.raise_signal(signal.SIGINT)

    for _ in stops:
        with pytest.raises(KeyboardInterrupt):
            broken(on_step=stop)
        assert not broken.registry.versions("pretrain")
    version = broken(on_step=stop)
    assert same(weights(uninterrupted), weights(version))
    assert version.manifest.metrics == uninterrupted.manifest.metrics
    telling = [
        [(record["step"], record["tokens"], record["loss"]) for record in steps(run)]
        for run in (uninterrupted, version)
    ]
    assert telling[0] == telling[1]


def test_interrupted_after_the_last_step_it_only_publishes(setting, uninterrupted):
    total = uninterrupted.manifest.metrics["steps"]
    with pytest.raises(KeyboardInterrupt):
        setting(on_step=lambda record: record.step == total and signal.raise_signal(signal.SIGINT))
    version = setting(on_step=lambda record: pytest.fail("trained on"))
    assert version.manifest.metrics == uninterrupted.manifest.metrics


def test_a_run_that_dies_goes_on_from_its_last_checkpoint(setting, tmp_path_factory):
    config = dataclasses.replace(CONFIG, checkpoint_every=1e-9, grad_accumulation=2, seed=3)

    def die(record):
        if record.step == 5:
            raise OSError("out of luck")

    with pytest.raises(OSError):
        setting(config, on_step=die)
    seen = []
    version = setting(config, on_step=lambda record: seen.append(record.step))
    assert seen[0] == 5  # it died before it could save step 5, so that is done again
    assert [record["step"] for record in steps(version)] == list(range(1, seen[-1] + 1))
    assert same(weights(set_up(tmp_path_factory.mktemp("straight"))(config)), weights(version))


def test_a_loss_that_is_not_finite_publishes_nothing(setting):
    with pytest.raises(LifecycleError, match=r"at step \d+; nothing was published.*--set lr="):
        setting(dataclasses.replace(CONFIG, lr=1e30, grad_clip=1e30))
    assert not setting.registry.versions("pretrain")


def test_a_step_that_does_not_fit_into_memory_publishes_nothing_and_keeps_the_last_checkpoint(setting, uninterrupted, monkeypatch):
    from lifecycle.model.decoder import Decoder

    def stop(record):
        if record.step == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        setting(on_step=stop)
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "score", lambda model, tokens, targets, lengths: torch.empty(2**55))
        with pytest.raises(LifecycleError, match=r"at step 4; nothing was published.*resume\.pt.*--set grad_accumulation=2"):
            setting()
    assert not setting.registry.versions("pretrain")
    assert same(weights(setting()), weights(uninterrupted))


def test_a_model_that_is_not_random_at_first_is_refused(setting, monkeypatch):
    from lifecycle.model.decoder import Decoder

    def loud(model, seed):
        torch.manual_seed(seed)
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(0, 1)

    monkeypatch.setattr(Decoder, "initialise", loud)
    with pytest.raises(LifecycleError, match="the first loss is"):
        setting()


def test_gradient_accumulation_changes_only_rounding(setting):
    from lifecycle.model.decoder import Decoder
    from lifecycle.pretrain.train import make_optimizer
    from lifecycle.training.batches import Batch
    from lifecycle.training.loop import update

    tokens = torch.randint(0, 300, (72,), generator=torch.Generator().manual_seed(0))
    targets = tokens.roll(-1)
    targets[17:24] = targets[50:60] = -100

    def batch(rows: slice) -> Batch:
        wanted = targets[rows]
        return Batch(tokens[rows], wanted, torch.full((len(wanted) // 12,), 12), int((wanted != -100).sum()))

    results = []
    for pieces in ([batch(slice(0, 72))], [batch(slice(0, 12)), batch(slice(12, 72))]):
        model = Decoder(CONFIG.model, seed=1)
        result = update(model, make_optimizer(model, CONFIG), pieces, CONFIG.grad_clip, torch.device("cpu"), torch.float32)
        results.append((result.loss, result.accuracy, result.grad_norm))
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_a_tokenizer_larger_than_the_model_is_refused(setting):
    small = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, vocab_size=290))
    with pytest.raises(LifecycleError, match="--set model.vocab_size=300"):
        setting(small)


def test_empty_data_is_refused(setting):
    with pytest.raises(LifecycleError, match="training data is empty"):
        setting(dataset=setting.dataset.select([]))
    with pytest.raises(LifecycleError, match='no column "text"'):
        setting(dataset=setting.dataset.rename_column("text", "story"))


def test_the_package_and_its_command_load_without_torch():
    code = "import sys, lifecycle.pretrain.commands; print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
