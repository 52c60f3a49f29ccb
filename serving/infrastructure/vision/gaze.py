"""Where a model looked as it wrote an answer: its attention, computed once more.

The engine's packed attention never writes weights down. So the checkpoint is opened once more, by transformers, when somebody
asks for the first time; a server that nobody asks pays nothing. One forward reads the conversation and its answer with
transformers' eager attention; of each layer the rows of the answer are kept, and the layer's other weights are gone before
the next layer makes its own.
"""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lifecycle.hardware import choose_device
from serving.application.ports import SequenceSlice
from serving.application.waiting import place_of
from serving.domain.errors import ContextLengthExceeded
from serving.domain.grid import Grid
from serving.domain.media import Media
from serving.domain.request import Prompt
from serving.infrastructure.causal_lm import CausalLM
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.torch_loading import load_model
from serving.infrastructure.vision.grids import undefined
from serving.infrastructure.vision.packing import Sight, deep
from serving.infrastructure.vision.tokenizer import VisionTokenizer

PATIENCE = 30.0
"""Seconds that somebody waits for others."""
MOST_BYTES = 2**28
"""Of one layer's weights, which are squared in the number of tokens."""
KEPT_BYTES = 2**24
"""Of pictures that went through the tower: who asks once asks again."""
THUMBNAIL = 160
"""Pixels of the longer side."""


@dataclass(frozen=True, slots=True)
class Whole:
    """What `Sight` reads of a packed step, for one sequence from its beginning to its end."""

    input_ids: Tensor
    position_ids: Tensor
    slices: tuple[SequenceSlice, ...]


class Gaze:
    """An `application.ports.Gaze`. Safe from any thread; one computes at a time."""

    def __init__(self, directory: str | Path, config: ServingConfig, tokenizer: VisionTokenizer) -> None:
        self._directory, self._config, self._tokenizer = Path(directory), config, tokenizer
        self._lock = threading.Lock()
        self._lm: CausalLM | None = None
        self._sight: Sight | None = None

    def grids(self, picture: Media, prompt: Prompt, number: int) -> tuple[Grid, ...]:
        """Of picture `number` of a prompt. Raises `AttentionUndefined`."""
        placed = prompt.media[number]
        height, width = picture.frames[0].shape[:2]
        return self._tokenizer.grids.of(height, width, placed.inputs, placed.size)

    def thumbnail(self, frame: Any) -> str:
        """A data: address of a small copy of a uint8 RGB array [height, width, 3]."""
        image = Image.fromarray(np.asarray(frame))
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        file = io.BytesIO()
        image.save(file, "WEBP", quality=80)
        return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()

    def __call__(self, prompt: Prompt, answer: Sequence[int]) -> Tensor:
        """[layers, answer tokens, prompt + answer]: over what each token of the answer spread its attention when it was chosen.

        The mean over the heads of each layer. Each row sums to 1; row 0 is that of the prompt's last token, from which the
        answer's first one follows. Raises `ContextLengthExceeded`, `AttentionUndefined`, and `QueueFull` while others compute
        for long.
        """
        with place_of(self._lock, PATIENCE, "others are asking where a model looked: ask again later"):
            return self._rows(prompt, answer)

    @torch.inference_mode()
    def _rows(self, prompt: Prompt, answer: Sequence[int]) -> Tensor:
        if self._lm is None:
            self._lm = CausalLM(load_model(self._directory, self._config, choose_device(self._config.device)))
            self._lm.set_attention("eager")
            self._sight = Sight(self._lm.model, KEPT_BYTES)
        lm, tokens = self._lm, [*prompt.tokens, *answer]
        if len(tokens) ** 2 * lm.config.num_attention_heads * 4 > MOST_BYTES:
            raise ContextLengthExceeded(
                f"conversation and answer have {len(tokens)} tokens: their attention takes more memory than one request may",
                param="messages",
            )
        ids = lm.ids([tokens])
        item = SequenceSlice("whole", tokens, 0, (), 1, media=prompt.media, positions=prompt.positions)
        inputs, layers = self._sight.inputs(Whole(ids, torch.arange(len(tokens), device=lm.device)[None], (item,)))
        last = torch.tensor([len(tokens) - 1], device=lm.device)  # logits that nobody reads
        rows = attention_rows(lm.model, len(prompt.tokens) - 1, len(tokens) - 1)
        with rows as kept, deep(lm.model, layers):
            lm.logits(last, **inputs, attention_mask=torch.ones_like(ids), use_cache=False)
        if not kept:
            raise undefined("its layers hand no attention weights on")
        return torch.stack(kept)


@contextmanager
def attention_rows(model: Any, start: int, stop: int) -> Iterator[list[Tensor]]:
    """Collects rows `start` to `stop` of each decoder layer's weights, the mean over its heads: [stop - start, tokens].

    Attention modules are those that know the number of their layer and hand weights on.
    """
    kept: list[Tensor] = []

    def keep(module: Any, arguments: Any, output: Any) -> None:
        if isinstance(output, tuple) and len(output) > 1 and isinstance(output[1], Tensor) and output[1].dim() == 4:
            kept.append(output[1][0, :, start:stop].float().mean(0).cpu())

    layers = [module for module in model.get_decoder().modules() if hasattr(module, "layer_idx")]
    hooks = [module.register_forward_hook(keep) for module in layers]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()
