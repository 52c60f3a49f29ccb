"""The stage as a whole: the model's own answers, judged, teach a reward model and, by DPO, the model; GRPO then goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.registry import DataRef, ModelRegistry, ModelVersion
from lifecycle.rlhf.config import RLHFConfig
from lifecycle.training.processes import processes

if TYPE_CHECKING:
    from datasets import Dataset

PARENTS = ("sft", "rlhf", "rlhf-dpo", "rlhf-kto", "import", "adapter")


def run(
    config: RLHFConfig,
    registry: ModelRegistry,
    *,
    parent: ModelVersion,
    tasks: Dataset,
    data: DataRef,
    given: tuple[Dataset, DataRef] | None = None,
    conversations: tuple[Dataset, DataRef] | None = None,
    preset: str | None = None,
) -> ModelVersion:
    """Publish "rlhf-pairs/N", "rlhf-reward/N", "rlhf-dpo/N" and "rlhf/N", and return the last.

    Of an adapter the adapter is trained further and published alone; the reward model is a whole one.
    `given` are preference pairs to take in place of sampled ones, `conversations` what GRPO rehearses. `tasks` has the columns "prompt" (messages), "check" (JSON text) and "skill". Parts that are registered already are
    not repeated. Raises LifecycleError for a parent of the wrong stage and for one whose answers make no pairs.
    """
    from lifecycle import versions
    from lifecycle.rlhf import dpo, grpo, pairs, reward

    versions.require_stage(parent, "rlhf", PARENTS)
    with versions.merged(parent) as whole:

        def take() -> ModelVersion:
            if given is not None:
                return pairs.keep(*given, registry, preset=preset)
            return pairs.run(config, registry, parent=whole, tasks=tasks, data=data, preset=preset)

        judged = processes().in_turn(take)
        judge = reward.run(config, registry, parent=whole, pairs=judged, preset=preset)
    policy = parent
    if config.dpo_steps:
        policy = dpo.run(config, registry, parent=parent, pairs=judged, preset=preset)
    if config.grpo_steps:
        policy = grpo.run(
            config, registry, parent=policy, reward_model=judge, tasks=tasks, data=data, preset=preset, conversations=conversations
        )
    return policy
