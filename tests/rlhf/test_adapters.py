"""An adapter goes the whole way, SFT, DPO, GRPO, on a base that stays as it is, and is served on it."""

from pathlib import Path

import pytest
import torch
from feedback.test_round import LONE, PAIRS, write
from safetensors.torch import load_file
from sft.tiny import WORLD, Start, same

from lifecycle import adapters, sft, versions
from lifecycle.errors import LifecycleError
from lifecycle.evaluation import sets
from lifecycle.evaluation.examination import examine
from lifecycle.feedback import stage
from lifecycle.feedback.config import FeedbackConfig
from lifecycle.rlhf import RLHFConfig, run
from lifecycle.see import run as see
from lifecycle.sft import SFTConfig
from lifecycle.speak import run as speak
from lifecycle.world.conversations import sft_conversations
from lifecycle.world.tasks import verified_prompts
from serving.application.completion import GenerateText
from serving.application.deltas import TextDelta
from serving.application.generation import Options
from serving.composition import ServingConfig, build_catalog

TEACH = SFTConfig(method="adapter", max_length=256, batch_rows=4, lora_rank=4, lora_alpha=16, lr=0.02, dtype="fp32")
REINFORCE = RLHFConfig(
    dtype="fp32",
    pair_answers=3,
    reward_steps=2,
    reward_batch=4,
    dpo_steps=3,
    dpo_batch=4,
    dpo_lr=0.02,
    grpo_steps=3,
    grpo_prompts=2,
    grpo_group=4,
    grpo_lr=0.02,
    grpo_tokens=200,
    reward_model_weight=1.0,
)
CHAIN = ("adapter/1", "rlhf-dpo/1", "rlhf/1")


@pytest.fixture(scope="module")
def finished(template, tmp_path_factory) -> Start:
    """A registry with a random base, "sft/1", and adapters of it after each stage."""
    start = template.copy(tmp_path_factory.mktemp("adapters") / "registry")
    base, (conversations, told), (tasks, asked) = start.model("sft"), sft_conversations(WORLD), verified_prompts(WORLD)
    taught = sft.run(TEACH, start.registry, parent=base, conversations=conversations, data=told)
    last = run(REINFORCE, start.registry, parent=taught, tasks=tasks, data=asked)
    assert (taught.ref, last.ref) == (CHAIN[0], CHAIN[-1])
    return start


def test_each_stage_publishes_an_adapter_whose_first_parent_is_the_base(finished):
    parents = [[parent.ref for parent in finished.registry.load(ref).manifest.parents] for ref in CHAIN]
    assert parents == [["sft/1"], ["sft/1", "adapter/1", "rlhf-pairs/1"], ["sft/1", "rlhf-dpo/1", "rlhf-reward/1"]]
    for ref in CHAIN:
        version = finished.registry.load(ref)
        assert finished.registry.verify(ref) == [] and adapters.base_of(version).ref == "sft/1"
        assert not {"config.json", "model.safetensors", "tokenizer.json"} & version.manifest.files.keys()
        assert not [file for file in version.manifest.files if "/" in file], "TRL's copy of the start is not published"
    assert not finished.workspaces()


def test_each_stage_goes_on_from_the_one_before(finished):
    found = [adapter(finished.registry.load(ref)) for ref in CHAIN]
    assert all(one.keys() == found[0].keys() for one in found)
    for before, after in zip(found, found[1:], strict=False):
        assert not same(before, after)
        # A few steps from where the one before ended, not from new random matrices.
        a = torch.cat([weight.flatten() for name, weight in before.items() if "lora_A" in name])
        b = torch.cat([after[name].flatten() for name in before if "lora_A" in name])
        assert torch.cosine_similarity(a, b, dim=0) > 0.9


def test_what_samples_has_the_weights_of_the_merged_model(finished):
    version = finished.registry.load("rlhf/1")
    model = versions.load_model(version)
    base = {name: weight.clone() for name, weight in versions.load_model(adapters.base_of(version)).state_dict().items()}
    given = adapters.checkpoint_weights(model)
    with versions.merged(version) as whole:
        merged = versions.load_model(whole).state_dict()
        assert whole.ref == version.ref and whole.path != version.path
    assert given.keys() == merged.keys() == base.keys() and not Path(whole.path).exists()
    for name, weight in merged.items():
        torch.testing.assert_close(given[name], weight)
        assert torch.equal(base[name], weight) == ("_proj" not in name), name


def test_who_has_merged_it_keeps_it_while_somebody_else_merges_it_too(finished):
    version = finished.registry.load("rlhf/1")
    with versions.merged(version) as mine:
        with versions.merged(version) as others:
            assert Path(others.path) != Path(mine.path)
        assert not Path(others.path).exists()
        assert versions.load_model(mine) is not None
    assert not Path(mine.path).exists()


def test_it_is_served_on_its_base_and_answers_differently(finished):
    config = ServingConfig(dtype="float32", kv_memory_mb=4)
    catalog = build_catalog(["sft/1"], config, finished.registry, adapters={"taught": "adapter/1", "reinforced": "rlhf/1"})
    try:
        said = {name: likelihoods(catalog, name) for name in ("sft", "taught", "reinforced")}
    finally:
        for model in catalog.engines():
            model.engine.close()
    assert len(set(said.values())) == 3
    (told,) = [model for model in catalog.all() if model.name == "reinforced"]
    assert told.version == "rlhf/1" and told.lineage[-1] == "tokenizer/1"


def likelihoods(catalog, name: str) -> tuple[float, ...]:
    """Of what a served model writes after a fixed beginning, greedily: log-probabilities of its tokens, in nats."""
    options = Options(temperature=0.0, max_tokens=24, ignore_eos=True, logprobs=0)
    generation = GenerateText(["Anna has a red ball. "], options).start(catalog.get(name))
    deltas = [delta for update in generation.updates(5.0) for delta in update if isinstance(delta, TextDelta)]
    return tuple(round(token.logprob, 3) for delta in deltas for token in delta.logprobs)


def test_a_report_card_takes_it_for_what_it_is_with_its_base(finished):
    tasks = {"tool_call": sets.development("tool_call", 2)}
    answers = {ref: examine(finished.registry.load(ref), tasks)["tool_call"].texts for ref in ("sft/1", *CHAIN)}
    assert len(set(answers.values())) > 1


def adapter(version) -> dict[str, torch.Tensor]:
    return load_file(version.path / "adapter_model.safetensors")


def test_what_people_mark_teaches_an_adapter_as_well(finished, tmp_path):
    marks = write(tmp_path / "f.sqlite", [*PAIRS, *LONE])
    config = FeedbackConfig(dtype="fp32", least=2, steps=2, batch=2, save_every=1)
    version = stage.run(config, finished.registry, parent=finished.registry.load("rlhf/1"), marks=marks)
    assert version.ref == "rlhf-kto/1" and adapters.base_of(version).ref == "sft/1"
    assert not same(adapter(version), adapter(finished.registry.load("rlhf-dpo/2")))


def test_an_adapter_is_no_beginning_for_seeing_and_speaking(finished):
    for teach in (see, speak):
        with pytest.raises(LifecycleError, match="rlhf/1 is an adapter: use --parent sft/1"):
            teach(None, finished.registry, parent=finished.registry.load("rlhf/1"), conversations=None, data=None)
