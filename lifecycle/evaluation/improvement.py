"""Does every stage of training earn its place? Each has one skill that it is there for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lifecycle.evaluation.seeds import Summary


@dataclass(frozen=True, slots=True)
class Target:
    """What a kind of model has to be better at than the one that it was made from."""

    before: str
    skill: str


TARGETS: Mapping[str, Target] = {
    "SFT": Target("base", "tool_call"),
    "DPO": Target("SFT", "constrained_writing"),
    "GRPO": Target("DPO", "constrained_writing"),
}
"""SFT shows a form that plain text does not have; preferences and rewards are about what stories must be like."""


@dataclass(frozen=True, slots=True)
class Improvement:
    """A kind of model in its target, beside the one before it."""

    model: str
    target: Target
    was: Summary
    now: Summary

    @property
    def beyond_noise(self) -> bool:
        """The 95% intervals over tasks do not overlap."""
        return self.now.low > self.was.high

    def __str__(self) -> str:
        verdict = "better beyond noise" if self.beyond_noise else "not better beyond noise"
        return f"{self.model}: {self.target.skill} {self.was.mean:.0%} ({self.target.before}) to {self.now.mean:.0%}, {verdict}"


def improvements(summaries: Sequence[Summary]) -> list[Improvement]:
    """One for each stage of training that was measured together with the one before it."""
    of = {(one.model, one.skill): one for one in summaries}
    pairs = [(model, target, of.get((target.before, target.skill)), of.get((model, target.skill))) for model, target in TARGETS.items()]
    return [Improvement(model, target, was, now) for model, target, was, now in pairs if was and now]
