"""The tokenizer of a model that sees: pictures become tensors and placeholders, on the thread of whoever sends them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from hashlib import blake2b
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText

from lifecycle.errors import LifecycleError
from serving.domain.errors import ContextLengthExceeded, InvalidRequest
from serving.domain.media import Media, Placement
from serving.domain.request import Prompt
from serving.infrastructure.tokenizer import HFTokenizer
from serving.infrastructure.vision.grids import Grids
from serving.infrastructure.vision.processor import picture_processor

Inputs = Mapping[str, Tensor]


class VisionTokenizer(HFTokenizer):
    """Any model that `AutoModelForImageTextToText` opens and whose processor says how to expand a placeholder."""

    def __init__(self, directory: str | Path) -> None:
        super().__init__(directory)
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
        # A copy, because processors add the tokens that they miss to their tokenizer, and no embedding follows.
        self._processor = picture_processor(Path(directory), config.model_type, deepcopy(self._tokenizer))
        self._placeholder: int = config.image_token_id
        self.mark: str = self._processor.image_token
        """What a template leaves where a picture belongs."""
        if self.mark not in self.vocabulary:
            raise LifecycleError(f"{directory}: the tokenizer lacks {self.mark}, which stands for a picture in this family")
        with torch.device("meta"):  # without memory for weights: what is asked of it follows from the config
            model = AutoModelForImageTextToText.from_config(config)
        self._arguments = frozenset(inspect.signature(model.get_image_features).parameters)
        self._rope: Callable[..., Any] | None = next(
            (module.get_rope_index for module in model.modules() if hasattr(module, "get_rope_index")), None
        )
        patch = getattr(config.vision_config, "patch_size", None)
        row_ends = any(name.endswith("image_newline") for name, _ in model.named_parameters())
        self.grids = Grids(self._process, patch, row_ends=row_ends)
        """Where the tokens of a picture lie in it."""
        self.clips_as_pictures = not hasattr(model, "get_video_features")
        self.sees = frozenset({"image", "video"})

    def place(self, text: str, media: Sequence[Media]) -> Prompt:
        """Tokens of a rendered template whose placeholders are as many as each picture needs.

        Raises ContextLengthExceeded for more pictures than can be read; InvalidRequest for a clip that would need a video
        processor, for a text that writes placeholders itself, and for a picture that the processor refuses.
        """
        if any(one.kind == "video" for one in media):
            raise InvalidRequest(
                "this model takes clips through a video processor of transformers, which needs torchvision, and this server "
                "goes without: send pictures of the clip instead",
                param="messages",
            )
        between = text.split(self.mark)
        if len(between) != len(media) + 1:
            raise InvalidRequest(
                f"the messages have {len(media)} pictures, but their text holds {len(between) - 1} times {self.mark}, which "
                "stands for a picture: leave it out of the text",
                param="messages",
            )
        try:
            pictures = self._pictures([Image.fromarray(np.asarray(one.frames[0])) for one in media])
        except ValueError as error:  # a picture of one pixel's height, or a hundred times as wide as high
            raise InvalidRequest(f"this model cannot be shown one of the pictures: {error}", param="messages") from error
        tokens = tuple(self.encode_rendered("".join(_alternate(between, [written for _, written in pictures]))))
        spans = self._spans(tokens, [self.encode_rendered(written).count(self._placeholder) for _, written in pictures])
        placed = tuple(
            Placement(digest(inputs), own, inputs) for (inputs, _), own in zip(pictures, spans, strict=True)
        )
        return Prompt(tokens, placed, self._positions(tokens, placed))

    def example(self) -> Prompt:
        """A prompt with a picture between two texts, to try a model with."""
        noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        return self.place(f"1{self.mark}2", [Media("image", "example", (noise,))])

    def _pictures(self, images: list[Image.Image]) -> list[tuple[Inputs, str]]:
        """Of each picture what the vision tower is given, and what is written in place of its placeholder.

        One at a time, so that a picture is the same wherever it is shown; but together for a family that cuts a picture
        into tiles only when it is alone (LLaVA-OneVision).
        """
        if len(images) > 1 and "batch_num_images" in self._arguments:
            shared = self._process(images)
            return [
                (
                    {name: one if name == "batch_num_images" else one[at : at + 1] for name, one in self._known(shared)},
                    self._processor.replace_image_token(shared, image_idx=at),
                )
                for at in range(len(images))
            ]
        pictures, size = [], 0
        for image in images:
            processed = self._process([image])
            pictures.append((dict(self._known(processed)), self._processor.replace_image_token(processed, image_idx=0)))
            size += self.encode_rendered(pictures[-1][1]).count(self._placeholder)
            if size > self.context_length:  # before the rest take time and memory, too: a small file may become many megabytes
                raise ContextLengthExceeded(
                    f"the first {len(pictures)} of {len(images)} pictures and frames have {size} tokens already, and this model "
                    f"reads at most {self.context_length}: show fewer",
                    param="messages",
                )
        return pictures

    def _process(self, images: list[Image.Image]) -> Any:
        return self._processor.image_processor([images], return_tensors="pt", **getattr(self._processor, "images_kwargs", {}))

    def _known(self, processed: Any) -> list[tuple[str, Tensor]]:
        return [(name, torch.as_tensor(one)) for name, one in processed.items() if name in self._arguments]

    def _spans(self, tokens: Sequence[int], sizes: Sequence[int]) -> list[tuple[tuple[int, int], ...]]:
        """The runs of placeholders that belong to each picture, which has so many of them."""
        places = [at for at, token in enumerate(tokens) if token == self._placeholder]
        if len(places) != sum(sizes):
            raise InvalidRequest("the text holds tokens that stand for pictures: leave them out", param="messages")
        rest = iter(places)
        return [_runs([next(rest) for _ in range(size)]) for size in sizes]

    def _positions(self, tokens: Sequence[int], placed: Sequence[Placement]) -> Tensor | None:
        """[3, tokens] by the model's own rule, where it has one."""
        if self._rope is None:
            return None
        kinds = torch.zeros(1, len(tokens), dtype=torch.long)
        for placement in placed:
            for start, stop in placement.spans:
                kinds[:, start:stop] = 1
        taken = inspect.signature(self._rope).parameters
        inputs = {name: torch.cat([one.inputs[name] for one in placed]) for name in placed[0].inputs if name in taken}
        return self._rope(torch.tensor([tokens]), mm_token_type_ids=kinds, **inputs)[0][:, 0]


def _alternate(texts: Sequence[str], pictures: Sequence[str]) -> Iterator[str]:
    for text, picture in zip_longest(texts, pictures, fillvalue=""):
        yield text
        yield picture


def digest(inputs: Inputs) -> str:
    """Names tensors by what is in them."""
    found = blake2b(digest_size=16)
    for name in sorted(inputs):
        tensor = inputs[name].contiguous()
        found.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def _runs(places: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Positions as (first, after the last) of those that follow each other."""
    groups = [[place for _, place in group] for _, group in groupby(enumerate(places), lambda one: one[1] - one[0])]
    return tuple((group[0], group[-1] + 1) for group in groups)
