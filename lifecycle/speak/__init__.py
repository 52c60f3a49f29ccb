"""Learning to hear and to speak: a codec writes speech down in tokens, and a language model learns to read and write these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.speak.config import PRESETS, SpeakConfig

if TYPE_CHECKING:
    from datasets import Dataset

    from lifecycle.registry import DataRef, ModelRegistry, ModelVersion

__all__ = ["PRESETS", "SpeakConfig", "run"]


def run(
    config: SpeakConfig,
    registry: ModelRegistry,
    *,
    parent: ModelVersion,
    conversations: Dataset,
    data: DataRef,
    preset: str | None = None,
) -> ModelVersion:
    """Teach `parent` to hear and to speak and publish "speak/N"; its codec is "codec/N", a parent of it.

    `conversations` are those that `parent` learnt from; in some of them it is held to its former words. A run that is
    registered already is returned at once; an interrupted one goes on from its last checkpoint.
    Raises LifecycleError for a parent of the wrong stage and for a loss that is not finite; KeyboardInterrupt after Ctrl-C.
    """
    from lifecycle.speak.stage import run

    return run(config, registry, parent=parent, conversations=conversations, data=data, preset=preset)
