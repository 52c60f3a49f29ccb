"""Lets a version that sees answer the frozen questions about pictures and clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from lifecycle.evaluation.sights import Sight

MAX_NEW_TOKENS = 24
BLANK = 128  # grey; black would be taken for padding


class SeeingAnswerer:
    """A loaded version of the stage see."""

    def __init__(self, directory: Path) -> None:
        self.model = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32, local_files_only=True).eval()
        self.processor = AutoProcessor.from_pretrained(directory, local_files_only=True)

    def answer(self, sights: Sequence[Sight], *, blind: bool = False, batch_size: int = 50) -> list[str]:
        """One greedy answer a task, in order; where `blind`, every picture is grey all over."""
        answers: list[str] = []
        for start in range(0, len(sights), batch_size):
            answers += self._some(sights[start : start + batch_size], blind)
        return answers

    @torch.inference_mode()
    def _some(self, sights: Sequence[Sight], blind: bool) -> list[str]:
        asked = [
            {"role": "user", "content": [*[{"type": "image"}] * len(sight.pictures), {"type": "text", "text": sight.question.text}]}
            for sight in sights
        ]
        shown = [[Image.fromarray(np.full_like(picture, BLANK) if blind else picture) for picture in sight.pictures] for sight in sights]
        inputs = self.processor(
            text=[self.processor.apply_chat_template([turn], add_generation_prompt=True) for turn in asked],
            images=shown,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        generated = self.model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        told = generated[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self.processor.tokenizer.batch_decode(told, skip_special_tokens=True)]
