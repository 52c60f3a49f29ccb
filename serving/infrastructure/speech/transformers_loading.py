"""Speech models, their configurations and processors, by directory or hub name: loaded, or one line that says why not."""

from __future__ import annotations

from typing import Any

from serving.domain.errors import SpeechMissing


def loaded(kind: Any, ref: str) -> Any:
    """`kind.from_pretrained(ref)`, a model in float32 and for inference. Raises `SpeechMissing`."""
    import torch

    try:
        found = kind.from_pretrained(ref)
    except (OSError, ValueError, ImportError) as error:
        raise SpeechMissing(f'"{ref}" is no speech model that can be loaded here: {_first_line(error)}') from None
    return found.float().eval() if isinstance(found, torch.nn.Module) else found


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
