"""Learning to see: a vision tower learns what captions say, and a language model learns to answer about what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.see.config import PRESETS, SeeConfig

if TYPE_CHECKING:
    from datasets import Dataset

    from lifecycle.registry import DataRef, ModelRegistry, ModelVersion

__all__ = ["PRESETS", "SeeConfig", "run"]


def run(
    config: SeeConfig,
    registry: ModelRegistry,
    *,
    parent: ModelVersion,
    conversations: Dataset,
    data: DataRef,
    preset: str | None = None,
) -> ModelVersion:
    """Teach `parent` to see and publish "see/N"; its tower is "encoder/N", a parent of it as well.

    `conversations` are those that `parent` learnt from; some are mixed in. A run that is registered already is returned at
    once; an interrupted one goes on from its last checkpoint.
    Raises LifecycleError for a parent of the wrong stage and for a loss that is not finite; KeyboardInterrupt after Ctrl-C.
    """
    from lifecycle.see.stage import run

    return run(config, registry, parent=parent, conversations=conversations, data=data, preset=preset)
