"""What is said and heard in each step, which follows from the seed and the step's number alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lifecycle.model.decoder import IGNORE
from lifecycle.speak.codec import padded
from lifecycle.speak.codecs import SpeechCodec
from lifecycle.speak.config import SpeakConfig
from lifecycle.speak.sound import levelled
from lifecycle.speak.tokens import BEGIN, code_token
from lifecycle.training.batches import Batch
from lifecycle.world.speech import ANSWERER, RATE, VOICES, Exchange, exchanges, recordings, varied

PAUSE = RATE // 10
"""Samples of silence around a spoken answer."""


def draw(config: SpeakConfig, phase: str, step: int) -> np.random.Generator:
    """Where the chance of one step comes from."""
    return np.random.default_rng((config.seed, *phase.encode(), step))


def utterances(random: np.random.Generator, count: int) -> list[np.ndarray]:
    """What any voice says, as it reaches an ear; besides, all that is answered, as it was recorded."""
    said = [(voice, one.said) for voice in VOICES for one in exchanges()]
    drawn = [said[number] for number in random.integers(len(said), size=count)]
    return [*(varied(recordings(voice)[text], random).noisy for voice, text in drawn), *(sound[0].numpy() for sound in answers().values())]


def answers() -> dict[str, Tensor]:
    """Everything that is answered, as the answering voice says it: samples [1, N] at one loudness, in whole codes."""
    bank = recordings(ANSWERER)
    texts = dict.fromkeys(one.answer for one in exchanges())
    return {text: padded([levelled(np.pad(bank[text], PAUSE))]) for text in texts}


def heard_codes(codec: SpeechCodec, sounds: Sequence[np.ndarray]) -> list[list[int]]:
    """The codes of each sound, as many as it has time for, at one loudness."""
    return codec.codes_of([levelled(sound) for sound in sounds])


@dataclass(frozen=True)
class Writer:
    """Turns what is heard and answered into tokens, as the chat template has it.

    First the model writes down what it hears, where others think; then it answers, in text and then aloud.
    """

    tokenizer: PreTrainedTokenizerBase
    codec: SpeechCodec
    first: int
    """Id of code 0."""

    @cached_property
    def answers(self) -> dict[str, list[int]]:
        """The codes of every answer in the answering voice."""
        return {text: self.codec.codes_of([sound[0].numpy()])[0] for text, sound in answers().items()}

    def asked(self, codes: Sequence[int]) -> list[int]:
        """The prompt: a user's turn of sound alone."""
        return [*self._encode(f"<|im_start|>user\n{BEGIN}"), *self._ids(codes), *self._encode("<|im_end|>\n<|im_start|>assistant\n")]

    def document(self, codes: Sequence[int], exchange: Exchange, aloud: bool) -> tuple[list[int], list[int]]:
        """A prompt and what comes after it as ids, and the same with IGNORE where nothing is learnt.

        After it comes what was heard; the answer as well where it is `aloud`.
        """
        asked = self.asked(codes)
        said = self._encode(f"<think>{exchange.said}</think>")
        if aloud:
            said += self._encode(f"{exchange.answer}{BEGIN}") + self._ids(self.answers[exchange.answer]) + self._encode("<|im_end|>")
        return asked + said, [IGNORE] * len(asked) + said

    def batch(self, config: SpeakConfig, step: int) -> Batch:
        """What is heard in a step, the shortest first."""
        random = draw(config, "speak", step)
        told = exchanges()
        drawn = [told[number] for number in random.integers(len(told), size=config.batch)]
        sounds = [varied(recordings(VOICES[random.integers(len(VOICES))])[one.said], random).noisy for one in drawn]
        aloud = random.random(config.batch) < config.aloud
        written = [self.document(*one) for one in zip(heard_codes(self.codec, sounds), drawn, aloud, strict=True)]
        written.sort(key=lambda document: len(document[0]))
        tokens = torch.tensor([token for ids, _ in written for token in ids[:-1]])
        targets = torch.tensor([token for _, learnt in written for token in learnt[1:]])
        lengths = torch.tensor([len(ids) - 1 for ids, _ in written])
        return Batch(tokens, targets, lengths, int((targets != IGNORE).sum()))

    def _ids(self, codes: Sequence[int]) -> list[int]:
        return [self.first + code for code in codes]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)


def written(codes: Sequence[int]) -> str:
    """Sound as text that the tokenizer reads: what stands in a prompt."""
    return BEGIN + "".join(map(code_token, codes))
