"""The stage: cast or round, write, reload, compare, publish, and move the alias only when the report card allows it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lifecycle.costs import CostMeter
from lifecycle.deploy.config import DeployConfig
from lifecycle.errors import LifecycleError
from lifecycle.evaluation.card import ReportCard, regressions, report
from lifecycle.registry import DataRef, ModelRegistry, ModelVersion, fingerprint

NAME = "deploy"
PARENTS = ("rlhf", "rlhf-dpo", "rlhf-kto", "sft", "see", "import")
INT8_NOTE = "transformers opens it with the package compressed-tensors; lifecycle.model.loading.load_causal_lm does without."


def run(
    config: DeployConfig,
    registry: ModelRegistry,
    *,
    parent: ModelVersion,
    preset: str | None = None,
    examples: list[str] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ModelVersion:
    """Publish "deploy/N" and, when its report card is no worse than production's beyond noise, move the alias to it.

    `examples` are prompts that the chat page offers. Raises LifecycleError for a parent of the wrong stage, and when the
    reloaded model does not say what its parent says (then nothing is published).
    """
    from lifecycle import trainers
    from lifecycle.deploy.export import difference, export

    trainers.require_stage(parent, NAME, PARENTS)
    data = DataRef(parent.ref, parent.manifest_hash, {"examples": examples} if examples else {})
    work = fingerprint(NAME, config, [parent], data)
    note = f" {INT8_NOTE}" if config.dtype == "int8" else ""
    version = registry.find(NAME, work)
    if version is None:
        meter = CostMeter()
        # Measured before it is published: what the manifest records must be known by then.
        artefact = registry.workspace(NAME, work, [parent]) / "artefact"
        try:
            export(parent, config, artefact)
            measured = difference(Path(parent.path), artefact)
            if measured["mean_difference"] > config.tolerance:
                instead = "bf16, or a higher --set tolerance= if perplexity is what counts" if config.dtype == "int8" else "fp32"
                raise LifecycleError(
                    f"cast to {config.dtype}, {parent.ref} differs by {measured['mean_difference']:.3f} nats per token, "
                    f"more than {config.tolerance}: use --set dtype={instead}; nothing was published"
                )
            if config.dtype == "int8":
                measured["card_delta"] = _card_delta(parent, artefact, config)
            version = registry.publish(
                NAME,
                lambda directory: shutil.copytree(artefact, directory, dirs_exist_ok=True),
                parents=[parent],
                config=config,
                preset=preset,
                data=data,
                metrics=measured,
                fingerprint=work,
                seconds=meter.seconds,
                cost=meter.read(),
                card=f"{parent.ref}, cast to {config.dtype}, reloaded and compared with its parent: ready to be served.{note}",
            )
        finally:
            registry.discard_workspace(NAME, work)
    promote(version, config, registry, say)
    return version


def promote(
    version: ModelVersion, config: DeployConfig, registry: ModelRegistry, say: Callable[[str], None] = lambda line: None
) -> bool:
    """Move the alias, unless some skill of the version in place would be lost; True when it points to `version` now.

    Raises LifecycleError for a version that deploying has not checked.
    """
    if version.manifest.stage != NAME:
        raise LifecycleError(
            f'{version.ref} is of stage "{version.manifest.stage}", and only what was deployed becomes {config.alias}: '
            f"lifecycle deploy --parent {version.ref}"
        )
    current = registry.aliases().get(config.alias)
    if current == version.ref:
        return True
    if current is None:
        registry.set_alias(config.alias, version.ref, reason="the first deployed version")
        say(f"{config.alias} -> {version.ref}")
        return True
    cards = [_card(registry.load(ref), config) for ref in (version.ref, current)]
    worse = regressions(*cards)
    if worse:
        say(f"{config.alias} stays at {current}; {version.ref} is worse in: {'; '.join(worse)}")
        say(f"to move it all the same: lifecycle models alias {config.alias} {version.ref}")
        return False
    registry.set_alias(config.alias, version.ref, reason=f"no skill worse than {current}'s")
    say(f"{config.alias}: {current} -> {version.ref}")
    return True


def _card_delta(parent: ModelVersion, artefact: Path, config: DeployConfig) -> dict[str, float]:
    """What rounding does to each skill: the artefact's share of the tasks minus its parent's."""
    before, after = (_card(version, config).of(parent.ref) for version in (parent, replace(parent, path=artefact)))
    return {skill: after[skill].value - row.value for skill, row in before.items()}


def _card(version: ModelVersion, config: DeployConfig) -> ReportCard:
    return report([version], limit=config.report_limit)
