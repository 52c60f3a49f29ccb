"""What a checkpoint directory says of itself: its arithmetic, what its author recommends, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from lifecycle.errors import LifecycleError
from lifecycle.model.directory import is_int8
from serving.infrastructure.config import ServingConfig

SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}
"""What generation_config.json calls a setting, and what a request calls it."""


def arithmetic(directory: Path, config: ServingConfig) -> str | None:
    """How the decoder's matrices are multiplied when it is in int8, for the log; None when it is not."""
    if is_int8(directory):
        return "int8 as stored"
    return "int8, rounded at load" if config.dtype == "int8" else None


@contextmanager
def opening(directory: Path) -> Iterator[None]:
    """Says what is wrong with a directory that transformers cannot open."""
    try:
        yield
    except (OSError, ValueError, StrictDataclassError) as error:
        raise LifecycleError(
            f"{directory} holds no causal language model that transformers can open: {error}"
        ) from None


def default_sampling(directory: str | Path) -> dict[str, Any]:
    """What generation_config.json says, under a request's names; see `SAMPLING`."""
    file = Path(directory) / "generation_config.json"
    written = json.loads(file.read_text()) if file.exists() else {}
    chosen = {ours: written[theirs] for theirs, ours in SAMPLING.items() if written.get(theirs) is not None}
    return {**chosen, "temperature": 0.0} if written.get("do_sample") is False else chosen
