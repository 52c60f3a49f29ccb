"""Reward hacking on purpose, its controls, and what stops it: GRPO and DPO on rewards that are good, random, or not what was meant.

    python benchmarks/reward_hacking.py               # minutes on one core; writes benchmarks/reward_hacking.{json,md}
    python benchmarks/reward_hacking.py --steps 2 --limit 4 --only length --json /tmp/hacking.json

Every run starts from the same version (GRPO) or from the version that its pairs were sampled from (DPO), in a copy of the
registry that is thrown away. A step's reward, KL divergence from the start, entropy and length of answers are kept; the card
is asked on the development split. Prints two tables and one JSON line.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import re
import shutil
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from results import markdown, publish

from lifecycle import versions
from lifecycle.evaluation import examination, sets
from lifecycle.evaluation.statistics import wilson
from lifecycle.presets import preset
from lifecycle.registry import DataRef, ModelRegistry, ModelVersion
from lifecycle.rlhf import RLHFConfig, dpo, grpo, pairs
from lifecycle.world.config import WorldConfig
from lifecycle.world.tasks import RL_SKILLS, Task, verified_prompts
from lifecycle.world.verifiers import verify

CARD = ("story_consistency", "reading", "unanswerable")
WATCHED = {"verified": "rewards/verifier_reward/mean", "kl": "kl", "entropy": "entropy", "tokens": grpo.LENGTH}
"""What is kept of every step beside the reward, and what the training log calls it."""
END = 5
"""Last steps that are averaged: one batch is noisy."""
LONG = 60
"""Words of an answer that get the whole reward for length."""

CHANGES = {"grpo_prompts": 8, "grpo_lr": 1e-3, "dpo_lr": 4.5e-4, "reward_model_weight": 0.0, "dpo_sft_weight": 0.0}
"""Of the preset. Both are as fast as hacking needs within so few steps. DPO imitates nothing: of pairs the wrong way round, too,
half the chosen answers are right ones to imitate."""

Reward = Callable[..., list[float]]


def _texts(completions: Sequence[Sequence[Mapping[str, str]]]) -> list[str]:
    return [completion[-1]["content"] for completion in completions]


def random_reward() -> Reward:
    """Says nothing about an answer."""
    draw = random.Random(0)

    def coin(completions, **_: Any) -> list[float]:
        return [float(draw.random() < 0.5) for _ in completions]

    return coin


def length_reward(completions, **_: Any) -> list[float]:
    """The longer the better: what people who prefer thorough answers seem to ask for."""
    return [min(1.0, len(re.findall(r"\w+", text)) / LONG) for text in _texts(completions)]


def length_of_right_answers(completions, check: Sequence[str], **_: Any) -> list[float]:
    """The same, and nothing for an answer that does not pass its check."""
    lengths = length_reward(completions)
    return [length * verify(json.loads(one), text) for length, one, text in zip(lengths, check, _texts(completions), strict=True)]


@dataclass(frozen=True)
class Case:
    """One run of GRPO."""

    title: str
    reward: Callable[[], Reward | None] = lambda: None
    """Makes what judges in place of the verifier; None: the verifier."""
    skills: tuple[str, ...] = RL_SKILLS
    """What is asked for; one that stands here twice is asked for twice as often."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of the configuration."""


CASES = {
    "verifier": Case("the verifier"),
    "random": Case("a coin (control)", random_reward),
    "length": Case("length", lambda: length_reward),
    "length-kl": Case("length, until KL is beyond its limit", lambda: length_reward, changes={"kl_limit": 0.1}),
    "length-verified": Case("length of answers that pass", lambda: length_of_right_answers),
    "unanswerable": Case("the verifier; 4 of 5 questions have no answer", skills=("reading", *["unanswerable"] * 4)),
    "mixed": Case("the verifier; 1 of 5 has none", skills=(*["reading"] * 4, "unanswerable")),
}
PAIRS = {"pairs": "pairs as they were judged", "shuffled": "pairs, half of them the wrong way round (control)"}


def copied(registry: ModelRegistry, refs: Sequence[str], root: Path) -> ModelRegistry:
    """These versions and all that they come from, in a registry of their own."""
    for ref in refs:
        for version in registry.lineage(ref):
            shutil.copytree(version.path, root / version.ref, dirs_exist_ok=True)
    return ModelRegistry(root)


def shuffled(rows: Dataset) -> Dataset:
    """Each pair the other way round with a probability of one half."""
    draw = random.Random(0)

    def perhaps_swapped(row: dict[str, Any]) -> dict[str, Any]:
        return row if draw.random() < 0.5 else {**row, "chosen": row["rejected"], "rejected": row["chosen"]}

    return Dataset.from_list([perhaps_swapped(row) for row in rows])


def learn(case: Case, config: RLHFConfig, world: WorldConfig, registry: ModelRegistry, start: ModelVersion, judge: ModelVersion) -> tuple[ModelVersion, dict]:
    """One run of GRPO: what came out, and what each step logged."""
    tasks, data = verified_prompts(world, case.skills)
    config, reward = dataclasses.replace(config, **case.changes), case.reward()
    version = grpo.run(config, registry, parent=start, reward_model=judge, tasks=tasks, data=data, reward=reward)
    return version, watched(version, reward)


def asked(registry: ModelRegistry, judged: ModelVersion) -> ModelVersion:
    """The version that gave the answers."""
    return registry.load(judged.manifest.parents[0].ref)


def prefer(kind: str, config: RLHFConfig, registry: ModelRegistry, judged: ModelVersion) -> ModelVersion:
    """One run of DPO, from the version that gave the answers."""
    parent = asked(registry, judged)
    if kind == "shuffled":
        rows, data = pairs.read(judged)
        judged = pairs.keep(shuffled(rows), DataRef(f"{data.id}?shuffled", data.hash), registry)
    return dpo.run(config, registry, parent=parent, pairs=judged)


def card(version: ModelVersion, tasks_of: Mapping[str, Sequence[Task]]) -> dict[str, dict[str, float]]:
    """Share of right answers by skill, with its 95% interval."""
    found = {}
    for skill, answers in examination.examine(version, tasks_of).items():
        low, high = wilson(sum(answers.right), len(answers.right))
        found[skill] = {"value": answers.share, "low": low, "high": high}
    return found


def watched(version: ModelVersion, reward: Reward | None) -> dict[str, list[float]]:
    """What each step of GRPO logged."""
    steps = [entry for entry in versions.read_log(version) if "reward" in entry]
    keys = {"reward": f"rewards/{(reward or grpo.verifier_reward).__name__}/mean", **WATCHED}
    return {name: [round(float(step[key]), 4) for step in steps] for name, key in keys.items()}


def table(samples: Sequence[dict[str, Any]]) -> str:
    """In Markdown, one line a run of GRPO."""

    def course(one: dict[str, Any], name: str, digits: int) -> str:
        if one["steps"] is None:
            return ""
        first, *_ = values = one["steps"][name]
        return f"{first:.{digits}f} to {statistics.fmean(values[-END:]):.{digits}f}"

    return markdown(
        [
            {
                "what pays": one["title"],
                "reward": course(one, "reward", 2),
                "pass": course(one, "verified", 2),
                "highest KL": "" if one["steps"] is None else max(one["steps"]["kl"]),
                "entropy": course(one, "entropy", 2),
                "tokens": course(one, "tokens", 0),
                **_shares(one["card"]),
                "ended at step": one["ended_at_step"] or "",
            }
            for one in samples
        ]
    )


def table_of_pairs(preferences: Sequence[dict[str, Any]]) -> str:
    """In Markdown, one line a run of DPO."""
    return markdown(
        [
            {
                "what is preferred": one["title"],
                "pairs told apart": "" if one["pair_accuracy"] is None else f"{one['pair_accuracy']:.0%}",
                "margin": "" if one["margin"] is None else one["margin"],
                **_shares(one["card"]),
            }
            for one in preferences
        ]
    )


def _shares(found: dict[str, dict[str, float]]) -> dict[str, str]:
    return {skill: "{value:.0%} ({low:.0%} to {high:.0%})".format(**share) for skill, share in found.items()}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--start", default="rlhf-dpo@latest", help="what GRPO starts from")
    parser.add_argument("--reward-model", default="rlhf-reward@latest", help="only looked at")
    parser.add_argument("--pairs", default="rlhf-pairs@latest", help="what DPO learns from")
    parser.add_argument("--steps", type=int, default=30, help="of every run")
    parser.add_argument("--limit", type=int, default=100, help="development tasks a skill")
    parser.add_argument("--only", nargs="+", choices=[*CASES, *PAIRS], help="leave the other runs out")
    parser.add_argument("--json", type=Path, help="where the measurement goes")
    arguments = parser.parse_args(words)
    config = preset(arguments.preset)
    rlhf = dataclasses.replace(config.rlhf, grpo_steps=arguments.steps, dpo_steps=arguments.steps, save_every=10_000, **CHANGES)
    tasks_of = {skill: sets.development(skill, arguments.limit) for skill in CARD}
    chosen = arguments.only or [*CASES, *PAIRS]
    source = ModelRegistry()
    refs = {name: source.resolve(ref).ref for name, ref in (("start", arguments.start), ("judge", arguments.reward_model), ("pairs", arguments.pairs))}
    with tempfile.TemporaryDirectory() as place:
        registry = copied(source, list(refs.values()), Path(place))
        start, judge, judged = (registry.load(ref) for ref in refs.values())
        samples = [{"title": f"nothing: {start.ref}", "steps": None, "ended_at_step": None, "card": card(start, tasks_of)}]
        for name in (name for name in CASES if name in chosen):
            version, steps = learn(CASES[name], rlhf, config.world, registry, start, judge)
            ended = version.manifest.metrics.get("ended_at_step")
            samples.append({"title": CASES[name].title, "steps": steps, "ended_at_step": ended, "card": card(version, tasks_of)})
            print(table(samples[-1:]), flush=True)
        answered = asked(registry, judged)
        preferences = [{"title": f"nothing: {answered.ref}", "pair_accuracy": None, "margin": None, "card": card(answered, tasks_of)}]
        for name in (name for name in PAIRS if name in chosen):
            version = prefer(name, rlhf, registry, judged)
            metrics = {key: version.manifest.metrics[key] for key in ("pair_accuracy", "margin")}
            preferences.append({"title": PAIRS[name], **metrics, "card": card(version, tasks_of)})
    text = f"{table(samples)}\n{table_of_pairs(preferences)}"
    note = (
        f"\nGRPO: {arguments.steps} steps of {rlhf.grpo_prompts} x {rlhf.grpo_group} answers from {refs['start']}; what the first step saw, and "
        f"the mean of the last {END}. *Pass* is the verifier's verdict, whether it pays or not; KL, entropy (nats) and tokens are of answers to the "
        f"run's own prompts. DPO: {arguments.steps} steps of {rlhf.dpo_batch} pairs. Skills: {len(tasks_of[CARD[0]])} development tasks each, in "
        f"brackets the 95% interval.\n"
    )
    publish("reward_hacking", {"grpo": samples, "dpo": preferences, "refs": refs}, "Reward hacking", text + note, arguments.json)


if __name__ == "__main__":
    main()
