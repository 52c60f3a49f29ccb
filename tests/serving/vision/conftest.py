"""One engine per family, and what transformers answers without any of this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lifecycle.model.loading import load_causal_lm
from serving.application.generation import Options, admit
from serving.application.ports import ServedModel, TokenStream
from serving.application.rendering import RenderChat
from serving.composition import ServingConfig, build_engine
from serving.domain.events import Event, Finished
from serving.domain.media import Media
from serving.domain.request import Prompt
from serving.infrastructure.vision.processor import picture_processor

from .families import FAMILIES, Family, character_tokenizer

TOKENS = 8
PATIENCE = 20.0  # seconds until a missing event is a failure
CONFIG = {
    "dtype": "float32",
    "block_size": 8,
    "num_blocks": 128,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 32,
    "prefill_chunk": 10,  # no picture fits into one chunk
}


def picture(seed: int, height: int = 40, width: int = 30) -> Media:
    """Noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Media("image", f"noise {seed}", (pixels,))


def chat(*parts: str | Media, before: tuple[dict[str, Any], ...] = ()) -> RenderChat:
    """One question of texts and pictures, after the messages `before` it."""
    written = [{"type": "text", "text": part} if isinstance(part, str) else {"type": part.kind} for part in parts]
    media = tuple(part for part in parts if isinstance(part, Media))
    return RenderChat([*before, {"role": "user", "content": written}], media=media)


@dataclass
class Seeing:
    """transformers' model and processor, and ours served with small blocks and chunks."""

    model: Any
    processor: Any
    served: ServedModel
    family: Family

    def generate(self, asked: RenderChat) -> list[int]:
        """transformers' own greedy answer."""
        images = [Image.fromarray(frame) for one in asked.media for frame in one.frames]
        inputs = self.processor(
            text=[asked.text(self.served)],
            images=[images] if images else None,
            return_tensors="pt",
            add_special_tokens=False,
        )
        inputs = {name: one for name, one in inputs.items() if name not in ("rows", "cols")}
        output = self.model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
        return output[0, inputs["input_ids"].shape[1] :].tolist()

    def start(self, asked: RenderChat) -> TokenStream:
        return self.submit(asked.prompt(self.served))

    def submit(self, prompt: Prompt, adapter: str | None = None) -> TokenStream:
        options = Options(temperature=0.0, max_tokens=TOKENS, ignore_eos=True)
        generation = admit(
            "test",
            replace(self.served, adapter=adapter),
            [prompt],
            options,
            tenant="default",
            default_max_tokens=TOKENS,
            prompt_param="messages",
        )
        return generation.choices[0].stream

    def answers(self, *asked: RenderChat) -> list[list[int]]:
        """What our engine answers, all of them at once."""
        return [collect(stream)[0] for stream in [self.start(one) for one in asked]]


def collect(stream: TokenStream, early: Sequence[Event] = ()) -> tuple[list[int], Finished]:
    """The answer and its end, after the events that came `early`."""
    tokens: list[int] = []
    events = list(early)
    while True:
        for event in events:
            if isinstance(event, Finished):
                assert event.reason == "length", event.error
                return tokens, event
            tokens += event.tokens
        events = stream.next(PATIENCE)
        assert events, "no event in time"


def seeing(name: str, directory: Any, **config: Any) -> Seeing:
    family = FAMILIES[name]
    family.save(directory)
    served = build_engine(directory, ServingConfig(**{**CONFIG, **config}))
    processor = picture_processor(directory, name, character_tokenizer(family.names))
    return Seeing(load_causal_lm(directory, torch.float32).eval(), processor, served, family)


@pytest.fixture(scope="package", params=FAMILIES)
def family(request, tmp_path_factory):
    found = seeing(request.param, tmp_path_factory.mktemp(request.param))
    yield found
    found.served.engine.close()


@pytest.fixture(scope="package")
def idefics(tmp_path_factory):
    found = seeing("idefics3", tmp_path_factory.mktemp("idefics"))
    yield found
    found.served.engine.close()
