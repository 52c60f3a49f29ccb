"""How much of the world to tell."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle.config import check_above_zero, check_not_negative, check_seed
from lifecycle.errors import LifecycleError


@dataclass(frozen=True)
class WorldConfig:
    """Sizes of the data sets; everything else follows from the seed."""

    seed: int = 0
    """Same seed, same texts, same hash."""
    documents: int = 32_700
    """Pretraining documents."""
    conversations: int = 12_500
    """SFT conversations."""
    prompts: int = 1_200
    """Prompts with verifiers: what preference pairs are sampled for, and what GRPO trains on; as many pairs of the world's own."""
    max_sentences: int = 10
    """Longest story."""
    unanswerable: int = 2
    """Questions that a story of pretraining does not answer, on average: each has from none to twice as many."""
    deep: int = 1
    """How many times as likely a question is to be asked that takes more than one look, as one that takes a single look."""
    facts: float = 0.0
    """Part of pretraining's documents, after the introductions, that tell a story and then all that it answers, unasked."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_above_zero(self, "documents", "conversations", "prompts", "max_sentences", "deep")
        check_not_negative(self, "unanswerable", "asks nothing that a story does not tell")
        if not 0 <= self.facts < 1:
            raise LifecycleError(f"facts is a part of the documents, at least 0 and below 1, not {self.facts}")


PRESETS = {
    "tiny": WorldConfig(),
    "laptop": WorldConfig(documents=107_000, conversations=14_000, prompts=2_400, deep=3, facts=0.15),
    "gpu": WorldConfig(documents=3_000_000, conversations=200_000, prompts=20_000, max_sentences=12),
    "cluster": WorldConfig(documents=6_000_000, conversations=400_000, prompts=40_000, max_sentences=12),
}
