"""The stage: cast or round, write, reload, compare, publish, and move the alias only when the gate lets it through."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lifecycle.costs import CostMeter
from lifecycle.deploy.config import SERVED, DeployConfig
from lifecycle.deploy.gate import STAGE as NAME
from lifecycle.deploy.gate import card, promote
from lifecycle.errors import LifecycleError
from lifecycle.registry import DataRef, ModelRegistry, ModelVersion, fingerprint
from lifecycle.registry.files import told_when_full

PARENTS = ("rlhf", "rlhf-dpo", "rlhf-kto", "sft", "see", "speak", "import", "adapter")
NOTES = {
    "int8": "transformers opens it with the package compressed-tensors; lifecycle.model.loading.load_causal_lm does without.",
    "gguf": "For llama.cpp and what is built on it: llama-server -m model.gguf; f16 and q8_0 for OpenVINO GenAI as well.",
    "openvino": "For OpenVINO GenAI: LLMPipeline(directory, device).",
    "adapter": "For its base, its first parent: lifecycle serve BASE --adapter NAME=THIS, or PeftModel.from_pretrained.",
}
"""Who opens it, by kind of target."""


def run(
    config: DeployConfig,
    registry: ModelRegistry,
    *,
    parent: ModelVersion,
    preset: str | None = None,
    examples: list[str] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ModelVersion:
    """Publish "deploy/N" and move the alias to it when it passes the gate (`lifecycle.deploy.gate`).

    What other engines run is published as "deploy-TARGET/N", and moves no alias. `examples` are prompts that the chat page
    offers. Raises LifecycleError for a parent of the wrong stage, and when the reloaded artefact does not say what its parent
    says (then nothing is published).
    """
    from lifecycle import versions

    versions.require_stage(parent, NAME, PARENTS)
    served = config.target in SERVED
    name = NAME if served else f"{NAME}-{config.target}"
    licence = licences(registry, parent)
    data = DataRef(parent.ref, parent.manifest_hash, {"license": licence} if licence else {})
    data = replace(data, detail={**data.detail, **({"examples": examples} if examples and served else {})})
    work = fingerprint(name, config, [parent], data)
    version = registry.find(name, work)
    if version is None:
        with told_when_full(registry.root):
            version = _publish(config, registry, name, parent, preset, data, work)
    if served:
        promote(version, config, registry, say)
    return version


def _publish(
    config: DeployConfig, registry: ModelRegistry, name: str, parent: ModelVersion, preset: str | None, data: DataRef, work: str
) -> ModelVersion:
    from lifecycle import adapters, versions
    from lifecycle.deploy.export import export
    from lifecycle.deploy.verification import verify

    meter = CostMeter()
    # Measured before it is published: what the manifest records must be known by then.
    artefact = registry.workspace(name, work, [parent]) / "artefact"
    shutil.rmtree(artefact, ignore_errors=True)  # whoever was killed left it half-written
    base = adapters.base_of(parent)
    try:
        with versions.merged(parent) as whole:
            facts = export(parent if config.target == "adapter" else whole, config, artefact, data.detail.get("license", ""))
            measured = verify(Path(whole.path), artefact, config, Path(base.path)) | facts
            if measured["mean_difference"] > config.allowed:
                exact = config.target in ("bf16", "adapter")
                instead = "--target fp32" if exact else "--target bf16, or a higher --set tolerance= if perplexity is what counts"
                raise LifecycleError(
                    f"cast to {config.target}, {parent.ref} differs by {measured['mean_difference']:.3f} nats per token, "
                    f"more than {config.allowed}: use {instead}; nothing was published"
                )
            if config.target == "int8":
                measured["card_delta"] = _card_delta(whole, artefact, config)
        return registry.publish(
            name,
            lambda directory: shutil.copytree(artefact, directory, dirs_exist_ok=True),
            parents=[base, parent] if config.target == "adapter" else [parent],
            config=replace(config, tolerance=config.allowed),  # the one that held
            preset=preset,
            data=data,
            metrics=measured,
            fingerprint=work,
            seconds=meter.seconds,
            cost=meter.read(),
            card=_card_text(parent, config.target, measured, data),
        )
    finally:
        registry.discard_workspace(name, work)


def _card_text(parent: ModelVersion, target: str, measured: Mapping[str, Any], data: DataRef) -> str:
    """What somebody wants to know who finds the artefact."""
    lines = [
        f"{parent.ref} as {target}, reloaded and compared with its parent. {NOTES.get(target.partition('-')[0], '')}".strip(),
        f"- size: {measured['size_mb']:.1f} MB",
        f"- speed: {measured['tokens_per_s']:.0f} tokens/s, one stream, greedy, by {measured['engine']} on the machine that wrote it",
        f"- quality: {measured['same_answers']:.1%} of {measured['prompts']} held-out prompts get the same greedy answer; log-probabilities "
        f"differ by {measured['mean_difference']:.4f} nats per token; perplexity {measured['perplexity']:.3f}, before {measured['parent_perplexity']:.3f}",
        f"- licence: {data.detail.get('license', 'none is recorded in its lineage')}",
    ]
    return "\n".join([lines[0], "", *lines[1:]])


def licences(registry: ModelRegistry, version: ModelVersion) -> str:
    """SPDX expression of all that the lineage records; empty when it records none."""
    ancestors = registry.lineage(version.ref)
    found = {ancestor.manifest.data.detail.get("license") for ancestor in ancestors if ancestor.manifest.data}
    return " AND ".join(sorted(found - {None}))


def _card_delta(parent: ModelVersion, artefact: Path, config: DeployConfig) -> dict[str, float]:
    """What rounding does to each skill: the artefact's share of the tasks minus its parent's."""
    before, after = (card(version, config.report_limit).of(parent.ref) for version in (parent, replace(parent, path=artefact)))
    return {skill: after[skill].value - row.value for skill, row in before.items()}
