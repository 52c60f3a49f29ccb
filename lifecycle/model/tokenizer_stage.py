"""The first stage of all: train the tokenizer and publish it as a version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lifecycle.costs import CostMeter
from lifecycle.registry import DataRef, ModelRegistry, ModelVersion, fingerprint

NAME = "tokenizer"


@dataclass(frozen=True)
class TokenizerConfig:
    """How large the vocabulary may grow, and on how much text."""

    vocab_size: int = 2048
    """Tokens, with the reserved ones and the 256 bytes."""
    documents: int = 20_000
    """Documents to count pairs in, spread evenly over the data: a sorted data set is seen from end to end."""


def run(config: TokenizerConfig, registry: ModelRegistry, texts: Sequence[str], data: DataRef) -> ModelVersion:
    """Train on some of `texts` and publish "tokenizer/N"; the version is returned at once when it exists already.

    `texts` may be lazy, like a data set's column; `data` names where they came from.
    """
    from lifecycle.model.tokenizer import train_tokenizer

    work = fingerprint(NAME, config, (), data)
    if (published := registry.find(NAME, work)) is not None:
        return published
    meter = CostMeter()
    stride = max(1, -(-len(texts) // config.documents))
    tokenizer = train_tokenizer((texts[index] for index in range(0, len(texts), stride)), config.vocab_size)
    return registry.publish(
        NAME,
        tokenizer.save_pretrained,
        stage=NAME,
        config=config,
        data=data,
        metrics={"vocab_size": len(tokenizer)},
        fingerprint=work,
        seconds=meter.seconds,
        cost=meter.read(),
    )
