"""A version that hears and speaks, at work: sound in, what it heard, its answer in text, and its answer in sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from lifecycle.model.directory import CODEC_DIRECTORY
from lifecycle.model.loading import load_causal_lm
from lifecycle.speak.codecs import load_codec
from lifecycle.speak.data import Writer, heard_codes
from lifecycle.speak.tokens import BEGIN, code_token

LONGEST = 160
"""Most tokens of an answer."""


@dataclass(frozen=True)
class Reply:
    """What came back."""

    heard: str
    """What the model wrote down of what was said to it."""
    answer: str
    codes: list[int]
    """The answer aloud; empty where it was cut off before."""


class Speaker:
    """A loaded version of the stage speak."""

    def __init__(self, directory: Path) -> None:
        self.codec = load_codec(Path(directory) / CODEC_DIRECTORY)
        self.tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        self.model = load_causal_lm(directory, torch.float32).eval()
        self.first = self.tokenizer.convert_tokens_to_ids(code_token(0))
        self.begin = self.tokenizer.convert_tokens_to_ids(BEGIN)
        self.writer = Writer(self.tokenizer, self.codec, self.first)

    def listen(self, sounds: Sequence[np.ndarray], *, longest: int = LONGEST, batch_size: int = 64) -> list[Reply]:
        """One greedy reply to each sound: float samples at 16 kHz. `longest` is the most tokens of a reply."""
        replies: list[Reply] = []
        for start in range(0, len(sounds), batch_size):
            replies += self._some(sounds[start : start + batch_size], longest)
        return replies

    @torch.inference_mode()
    def _some(self, sounds: Sequence[np.ndarray], longest: int) -> list[Reply]:
        prompts = [self.writer.asked(codes) for codes in heard_codes(self.codec, sounds)]
        width = max(map(len, prompts))
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        told = self.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=longest, do_sample=False)[:, width:]
        return [self._reply(row.tolist()) for row in told]

    def _reply(self, ids: list[int]) -> Reply:
        end = ids.index(self.begin) if self.begin in ids else len(ids)
        heard, _, answer = self.tokenizer.decode(ids[:end], skip_special_tokens=True).removeprefix("<think>").partition("</think>")
        codes = [token - self.first for token in ids[end + 1 :] if 0 <= token - self.first < self.codec.codes]
        return Reply(heard.strip(), answer.strip(), codes)

    def sound(self, codes: Sequence[int]) -> np.ndarray:
        """Codes to float samples at the codec's rate."""
        aloud = self.codec.read()
        return np.concatenate([aloud.push(codes), aloud.finish()])
