"""The gate that "production" moves through: parity with the parent, a smoke test, and a report card without a loss.

Whoever moves the alias, the command line, the pipeline or the page, asks here; nothing moves when a check fails. The way
back is free: a version that was in place before has been through the gate already.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from lifecycle.deploy.config import DeployConfig
from lifecycle.errors import LifecycleError
from lifecycle.evaluation.card import ReportCard, report, setbacks
from lifecycle.registry import AliasMove, ModelRegistry, ModelVersion
from lifecycle.registry.aliases import CANDIDATE, previous
from lifecycle.world.examples import EXAMPLES

STAGE = "deploy"
SMOKE_TOKENS = 8
SMOKE_QUESTIONS = 3


def promote(
    version: ModelVersion, config: DeployConfig, registry: ModelRegistry, say: Callable[[str], None] = lambda line: None
) -> bool:
    """Move the alias if the version passes every check; True when it points to `version` now.

    The files of `version` are checked against their hashes first. Raises LifecycleError for a damaged version, and for one
    that deploying has not checked.
    """
    if version.manifest.stage != STAGE:
        raise LifecycleError(
            f'{version.ref} is of stage "{version.manifest.stage}", and only what was deployed becomes {config.alias}: '
            f"lifecycle deploy --parent {version.ref}"
        )
    current = registry.aliases().get(config.alias)
    if current == version.ref:
        return True
    version = registry.load(version.ref)
    if broken := [*parity(version), *smoke(version)]:
        return _stays(version, config.alias, current, broken, say)
    if current is None:
        registry.set_alias(config.alias, version.ref, reason="the first deployed version")
        say(f"{config.alias} -> {version.ref}")
        return True
    worse = setbacks(*(card(registry.load(ref), config.report_limit) for ref in (version.ref, current)))
    if worse:
        return _stays(version, config.alias, current, [f"worse in: {'; '.join(worse)}"], say)
    registry.set_alias(config.alias, version.ref, reason=f"no skill worse than {current}'s")
    say(f"{config.alias}: {current} -> {version.ref}")
    return True


def roll_back(registry: ModelRegistry, alias: str, reason: str) -> AliasMove:
    """Move an alias back to the version before the one in place, checked against its hashes; nobody goes on trying that one.

    Raises LifecycleError when there is none, or when it is damaged; then the alias stays.
    """
    current, before = registry.aliases().get(alias), previous(registry.alias_moves(), alias)
    if before is None:
        raise LifecycleError(
            f'"{alias}" has pointed to nothing but {current or "nothing"}, so there is nothing to go back to: '
            "lifecycle models history shows every move"
        )
    move = registry.set_alias(alias, registry.load(before).ref, reason)
    if registry.aliases().get(CANDIDATE) == current:
        registry.set_alias(CANDIDATE, before, f"{alias} rolled back: {reason}")
    return move


def parity(version: ModelVersion) -> list[str]:
    """What is wrong with how deploying found the artefact beside its parent, which it records; empty: nothing."""
    measured = version.manifest.metrics.get("mean_difference")
    if measured is None:
        return [f"it was never compared with its parent: lifecycle deploy --parent {_parent(version)}"]
    allowed = version.manifest.config.get("tolerance")
    if not measured <= (math.inf if allowed is None else allowed):
        return [f"it differs from its parent by {measured:.3f} nats per token, more than {allowed}"]
    return []


def smoke(version: ModelVersion) -> list[str]:
    """What goes wrong when the artefact is loaded and asked a few questions; empty: nothing.

    It has to give finite numbers and to go on; whether what it says is right is for the report card to tell.
    """
    import torch
    from transformers import AutoTokenizer

    from lifecycle.model.loading import load_causal_lm

    try:
        model = load_causal_lm(version.path, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(version.path)
        for example in EXAMPLES[:SMOKE_QUESTIONS]:
            messages = [{"role": "user", "content": example.prompt}]
            ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"]
            with torch.inference_mode():
                finite = torch.isfinite(model(ids).logits).all()  # [1, T, V]
                answer = model.generate(ids, max_new_tokens=SMOKE_TOKENS, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
            if not finite:
                return ["its logits are not finite"]
            tokenizer.decode(answer)
    except Exception as error:  # whatever a library says about an artefact that it cannot run
        return [f"it cannot be asked anything: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"]
    return []


def card(version: ModelVersion, limit: int | None) -> ReportCard:
    """Its report card on the first `limit` tasks of each skill; None for all."""
    return report([version], limit=limit)


def _stays(version: ModelVersion, alias: str, current: str | None, why: list[str], say: Callable[[str], None]) -> bool:
    where = f"stays at {current}" if current else "stays unset"
    say(f"{alias} {where}; {version.ref} is {why[0]}" if why[0].startswith("worse") else f"{alias} {where}: {version.ref}: {'; '.join(why)}")
    say(f"to move it all the same: lifecycle models promote {version.ref} --force --reason WHY")
    return False


def _parent(version: ModelVersion) -> str:
    return next((parent.ref for parent in version.manifest.parents), "rlhf@latest")
