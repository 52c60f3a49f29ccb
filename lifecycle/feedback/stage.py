"""One round of learning from people: DPO on pairs, then KTO on thumbs without a partner, whichever there is enough of."""

from __future__ import annotations

from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.feedback.config import FeedbackConfig
from lifecycle.feedback.data import collect
from lifecycle.registry import ModelRegistry, ModelVersion
from lifecycle.rlhf.config import RLHFConfig

PARENTS = ("rlhf", "rlhf-dpo", "rlhf-kto", "sft", "import")


def run(config: FeedbackConfig, registry: ModelRegistry, *, parent: ModelVersion, marks: Path, preset: str | None = None) -> ModelVersion:
    """Learn from a file of feedback and publish "rlhf-dpo/N", "rlhf-kto/N" or both; the last one is returned.

    The data are versions too: "rlhf-pairs/N" and "rlhf-thumbs/N". What is registered already is not repeated. Raises
    LifecycleError for a parent of the wrong stage and for a file that has too little to learn from.
    """
    from lifecycle import versions
    from lifecycle.feedback import kto
    from lifecycle.rlhf import dpo, pairs

    versions.require_stage(parent, "rlhf", PARENTS)
    found = collect(marks, config.least)
    version = parent
    if found.pairs:
        kept = pairs.keep(*found.pairs, registry, preset=preset)
        version = dpo.run(as_dpo(config), registry, parent=version, pairs=kept, preset=preset, batch="batch", rate="lr")
    if found.thumbs:
        kept = pairs.keep(*found.thumbs, registry, preset=preset, name=kto.THUMBS)
        version = kto.run(config, registry, parent=version, thumbs=kept, preset=preset)
    return version


def as_dpo(config: FeedbackConfig) -> RLHFConfig:
    """The same in the words of DPO."""
    return RLHFConfig(
        seed=config.seed,
        dtype=config.dtype,
        save_every=config.save_every,
        dpo_steps=config.steps,
        dpo_batch=config.batch,
        dpo_lr=config.lr,
        dpo_beta=config.beta,
        dpo_sft_weight=config.sft_weight,
    )


def served_parent(registry: ModelRegistry, alias: str) -> str:
    """The trained version behind the one that is served: what is deployed is cast or rounded, and not trained further.

    Raises LifecycleError when nothing is deployed yet.
    """
    if alias not in registry.aliases():
        raise LifecycleError(f'nothing is "{alias}" yet: lifecycle deploy first, or say where to start with --parent sft@latest')
    version = registry.resolve(alias)
    parents = version.manifest.parents
    return parents[0].ref if version.manifest.stage == "deploy" and parents else version.ref
