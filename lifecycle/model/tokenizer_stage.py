"""The first stage of all: train the tokenizer and publish it as a version."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifecycle.registry import DataRef, ModelRegistry, ModelVersion

NAME = "tokenizer"


@dataclass(frozen=True)
class TokenizerConfig:
    """How large the vocabulary may grow, and on how much text."""

    vocab_size: int = 1024
    """Tokens, with the reserved ones and the 256 bytes."""
    documents: int = 20_000
    """Documents to count pairs in, taken evenly from the whole data set."""


def run(config: TokenizerConfig, registry: ModelRegistry, texts: Iterable[str], data: DataRef) -> ModelVersion:
    """Train on `texts` and publish "tokenizer/N"; the version is returned at once when it exists already.

    `texts` is only read when there is something to train; `data` names where it came from.
    """
    from lifecycle.model.tokenizer import train_tokenizer

    settings = asdict(config)
    fingerprint = registry.fingerprint(NAME, settings, (), data)
    if (published := registry.find(NAME, fingerprint)) is not None:
        return published
    started = time.perf_counter()
    tokenizer = train_tokenizer(texts, config.vocab_size)
    return registry.publish(
        NAME,
        tokenizer.save_pretrained,
        stage=NAME,
        config=settings,
        data=data,
        metrics={"vocab_size": len(tokenizer)},
        fingerprint=fingerprint,
        seconds=time.perf_counter() - started,
    )


def spread(texts: list[str], count: int) -> Iterable[str]:
    """`count` of the texts, or all of them, evenly spaced: a sorted data set is sampled from end to end."""
    stride = max(1, -(-len(texts) // count))
    return (texts[index] for index in range(0, len(texts), stride))
