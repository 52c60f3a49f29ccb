"""Which checkpoints are of models that see, and how transformers opens them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


def sees(directory: str | Path) -> bool:
    """Whether a checkpoint's config.json describes a vision tower in front of a language model."""
    file = Path(directory) / "config.json"
    written = json.loads(file.read_text()) if file.is_file() else {}
    known = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values()
    return "vision_config" in written and (written.get("architectures") or [""])[0] in known


def load_seeing(directory: str | Path, dtype: torch.dtype | str = "auto") -> PreTrainedModel:
    """What `AutoModelForImageTextToText.from_pretrained` gives."""
    return AutoModelForImageTextToText.from_pretrained(directory, dtype=dtype, local_files_only=True)


def skeleton(config: Any) -> PreTrainedModel:
    """The model without memory for its weights: to ask what follows from the config alone."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)
