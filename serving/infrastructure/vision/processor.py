"""transformers' processor of a family without its video half, which needs torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers import AutoImageProcessor, PreTrainedTokenizerBase, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from lifecycle.errors import LifecycleError

STAND_INS = {"SmolVLMProcessor": "Idefics3Processor"}
"""Processors that cannot be made without packages for clips, and those that treat pictures the same."""


def picture_processor(directory: Path, model_type: str, tokenizer: PreTrainedTokenizerBase) -> ProcessorMixin:
    """Knows how pictures become tensors and how many placeholders each of them takes.

    Raises LifecycleError when the directory has no image processor or the family no processor.
    """
    name = PROCESSOR_MAPPING_NAMES.get(model_type)
    family = getattr(transformers, STAND_INS.get(name, name) or "", None)
    if family is None or not hasattr(family, "replace_image_token"):
        raise LifecycleError(f"{directory}: transformers has no processor of pictures for {model_type} models")
    try:
        images = AutoImageProcessor.from_pretrained(directory, local_files_only=True)
        described: dict[str, Any] = family.get_processor_dict(directory, local_files_only=True)[0]
    except (OSError, ValueError, ImportError) as error:
        raise LifecycleError(f"{directory} holds no image processor that transformers can open: {error}") from None
    pictures_only = _without_video(family)
    taken = pictures_only.__init__.__code__.co_varnames[: pictures_only.__init__.__code__.co_argcount]
    parts = {"self", "image_processor", "tokenizer", "video_processor", "chat_template"}
    options = {name: described[name] for name in taken if name in described and name not in parts}
    try:
        return pictures_only(image_processor=images, tokenizer=tokenizer, **options)
    except (AttributeError, ValueError, TypeError) as error:  # special tokens of the family, mostly
        raise LifecycleError(f"{directory} lacks what a processor for {model_type} models asks for: {error}") from None


def _without_video(family: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """The same class, content with two parts."""

    class PicturesOnly(family):
        @classmethod
        def get_attributes(cls) -> list[str]:
            return ["image_processor", "tokenizer"]

    return PicturesOnly
