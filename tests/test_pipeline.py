"""The whole way in miniature: five stages, one unbroken lineage, and nothing done twice."""

from dataclasses import replace

import pytest
from click.testing import CliRunner
from sft.tiny import SHAPE, WORLD
from transformers import AutoModelForCausalLM, AutoTokenizer

from lifecycle import pipeline
from lifecycle.cli import main
from lifecycle.deploy import DeployConfig
from lifecycle.presets import Preset
from lifecycle.pretrain import PretrainConfig
from lifecycle.registry import ModelRegistry
from lifecycle.rlhf import RLHFConfig
from lifecycle.sft import SFTConfig
from lifecycle.world.conversations import sft_conversations
from lifecycle.world.corpus import pretraining_corpus
from lifecycle.world.examples import EXAMPLES
from lifecycle.world.tasks import verified_prompts

MINIATURE = Preset(
    world=WORLD,
    pretrain=PretrainConfig(
        model=SHAPE, tokens=5000, batch_tokens=1024, bucket_batches=2, dtype="fp32", eval_every=5, sample_every=0
    ),
    sft=SFTConfig(max_length=256, batch_rows=4, dtype="fp32"),
    rlhf=RLHFConfig(
        dtype="fp32",
        pair_answers=3,
        reward_steps=2,
        reward_batch=4,
        dpo_steps=2,
        dpo_batch=4,
        grpo_steps=2,
        grpo_prompts=2,
        grpo_group=2,
        grpo_tokens=16,
    ),
    deploy=DeployConfig(report_limit=1, prompts=20),
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> ModelRegistry:
    """After one run, in which a random model's answers are right now and then."""
    registry = ModelRegistry(tmp_path_factory.mktemp("pipeline") / "registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lifecycle.rlhf.pairs.verify", lambda check, answer: len(answer) % 2 == 0)
        assert pipeline.run(MINIATURE, registry, "miniature").ref == "deploy/1"
    return registry


def test_production_goes_back_to_the_world_without_a_gap(registry):
    chain = {version.ref: version for version in registry.lineage("production")}
    assert list(chain)[0] == "deploy/1" and list(chain)[-1] == "tokenizer/1"
    assert set(chain) == {"deploy/1", "rlhf/1", "rlhf-dpo/1", "rlhf-reward/1", "rlhf-pairs/1", "sft/1", "pretrain/1", "tokenizer/1"}
    told = {
        "tokenizer/1": pretraining_corpus(WORLD),
        "pretrain/1": pretraining_corpus(WORLD),
        "sft/1": sft_conversations(WORLD),
        "rlhf-pairs/1": verified_prompts(WORLD),
        "rlhf/1": verified_prompts(WORLD),
    }
    for ref, (*_, reference) in told.items():
        assert (chain[ref].manifest.data.id, chain[ref].manifest.data.hash) == (reference.id, reference.hash), ref
    for ref, version in chain.items():
        assert registry.verify(ref) == []
        assert version.manifest.preset == (None if ref == "tokenizer/1" else "miniature")


def test_what_is_deployed_answers_a_chat(registry):
    version = registry.load("production")
    model, tokenizer = (kind.from_pretrained(version.path) for kind in (AutoModelForCausalLM, AutoTokenizer))
    asked = [{"role": "user", "content": EXAMPLES[0].prompt}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=4)
    assert answer.shape[1] > prompt["input_ids"].shape[1]
    assert version.manifest.data.detail["examples"] == [example.prompt for example in EXAMPLES]


def test_a_second_run_finds_everything_registered(registry, capsys):
    before = registry.refs()
    assert pipeline.run(MINIATURE, registry, "miniature").ref == "deploy/1"
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], " ".join(line[2:])) for line in lines] == [
        (f"{stage}:", "(registered before)") for stage in pipeline.STAGES
    ]
    assert registry.refs() == before and len(registry.alias_moves()) == 1
    assert not list((registry.root / ".work").glob("*-*"))


def test_what_changes_is_done_anew_from_there_on(registry):
    changed = replace(MINIATURE, deploy=replace(MINIATURE.deploy, target="fp32"))
    before = registry.refs()
    assert pipeline.run(changed, registry, "miniature").ref == "deploy/2"
    assert set(registry.refs()) - set(before) == {"deploy/2"}
    assert registry.lineage("deploy/2")[1:] == registry.lineage("deploy/1")[1:]


def test_another_seed_asks_the_same_question_once_more(registry):
    before, moves = registry.refs(), registry.alias_moves()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lifecycle.rlhf.pairs.verify", lambda check, answer: len(answer) % 2 == 0)
        version = pipeline.run(pipeline.with_seed(MINIATURE, 5), registry, "miniature", stages=pipeline.AGAIN, lora=True)
    new = {ref: registry.load(ref).manifest for ref in set(registry.refs()) - set(before)}
    assert {manifest.seed for manifest in new.values()} == {5}
    assert sorted(new[ref].config["method"] for ref in new if new[ref].stage == "sft") == ["full", "lora"]
    chain = {one.ref: one.manifest for one in registry.lineage(version.ref)}
    assert "tokenizer/1" in chain and len(new) == len(chain)  # no other tokenizer, but LoRA's branch
    assert registry.alias_moves() == moves


def test_every_version_says_what_it_cost(registry):
    for ref in registry.refs():
        version = registry.load(ref)
        cost = version.manifest.cost
        assert cost["wall_seconds"] > 0 and cost["cpu_seconds"] > 0 and cost["peak_memory_bytes"] > 2**20
        assert ("tokens" in cost) == (version.manifest.stage not in ("tokenizer", "rlhf-pairs", "deploy")), ref
        assert cost.get("tokens", 1) > 0


def test_seeds_are_whole_numbers():
    result = CliRunner().invoke(main, ["run", "--seeds", "0,one"])
    assert result.exit_code == 2 and "--seeds 0,1,2" in result.output
