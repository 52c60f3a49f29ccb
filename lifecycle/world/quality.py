"""How varied a text is: words, forms of sentences, and how often a document is told twice.

Text that is generated can be endless and still say the same thing again and again. Three figures show it: the type-token
ratio (words), the entropy of sentence templates (forms), and the share of near-duplicates (documents).
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from lifecycle.errors import LifecycleError
from lifecycle.world import vocabulary

WINDOW = 1000
"""Words of one type-token ratio: it falls with the length of a text, so only windows of the same length compare."""
SHINGLE = 5
"""Words in a row that two documents may share."""
SIMILAR = 0.8
"""Two documents whose sets of shingles overlap by so much (Jaccard's coefficient) are near-duplicates."""

_TEMPLATE_OF = {
    **dict.fromkeys(vocabulary.PEOPLE, "PERSON"),
    **dict.fromkeys(("he", "she"), "PRONOUN"),
    **dict.fromkeys(vocabulary.THINGS, "THING"),
    **dict.fromkeys(vocabulary.PLACES, "PLACE"),
    **dict.fromkeys(vocabulary.COLOURS, "COLOUR"),
    **dict.fromkeys(vocabulary.FEELINGS, "FEELING"),
    **dict.fromkeys(vocabulary.GOODS, "GOODS"),
    **dict.fromkeys(vocabulary.NUMBERS, "NUMBER"),
}


@dataclass(frozen=True, slots=True)
class Quality:
    """How varied some documents are."""

    documents: int
    words: int
    distinct_words: int
    type_token_ratio: float
    """Distinct words over words, 0 to 1: the mean over windows of `WINDOW` words."""
    templates: int
    """Distinct sentences once names, things, places, colours, feelings, goods and numbers are taken out."""
    template_entropy: float
    """Shannon entropy of these templates, in bits: n bits is the variety of 2**n equally frequent ones."""
    near_duplicates: float
    """Share of documents that an earlier one tells all but literally, 0 to 1."""


def measure(texts: Sequence[str]) -> Quality:
    """The quality of some documents; raises LifecycleError when there is no word in them."""
    spoken = [words(text) for text in texts]
    every = [word for document in spoken for word in document]
    if not every:
        raise LifecycleError("there is no text to measure: give at least one document with words in it")
    templates = Counter(template(sentence) for text in texts for sentence in sentences(text))
    return Quality(
        len(texts),
        len(every),
        len(set(every)),
        type_token_ratio(every),
        len(templates),
        entropy(templates),
        near_duplicates(spoken),
    )


def words(text: str) -> list[str]:
    """Words and numbers in small letters, without punctuation."""
    return re.findall(r"\w+", text.lower())


def sentences(text: str) -> list[str]:
    """A text cut after full stops, question and exclamation marks, and at the ends of lines."""
    return [sentence.strip() for sentence in re.split(r"(?<=[.!?])\s|\n", text) if sentence.strip()]


def template(sentence: str) -> str:
    """A sentence with its names, things, places, colours, feelings, goods and numbers replaced by their class."""
    return re.sub(r"\w+", _class_of, sentence)


def _class_of(match: re.Match) -> str:
    word = match[0]
    return "NUMBER" if word.isdigit() else _TEMPLATE_OF.get(word) or _TEMPLATE_OF.get(word.lower(), word)


def type_token_ratio(every: Sequence[str], window: int = WINDOW) -> float:
    """Distinct words over words, averaged over windows of one length (Johnson, 1944); a shorter text is one window."""
    starts = range(0, max(1, len(every) - window + 1), window)
    ratios = [len(set(piece)) / len(piece) for piece in (every[start : start + window] for start in starts)]
    return sum(ratios) / len(ratios)


def entropy(counts: Counter) -> float:
    """Shannon's entropy of a distribution given as counts, in bits."""
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values())


def near_duplicates(documents: Sequence[Sequence[str]]) -> float:
    """The share of documents whose shingles overlap with an earlier document's by `SIMILAR` or more (Broder, 1997).

    Exact: only documents that share a shingle are compared. Takes time in proportion to how much is shared.
    """
    seen: list[int] = []  # number of shingles of each document
    holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    repeated = 0
    for number, document in enumerate(documents):
        own = {tuple(document[at : at + SHINGLE]) for at in range(max(1, len(document) - SHINGLE + 1))}
        common = Counter(other for shingle in own for other in holders[shingle])
        repeated += any(shared >= SIMILAR * (len(own) + seen[other] - shared) for other, shared in common.items())
        seen.append(len(own))
        for shingle in own:
            holders[shingle].append(number)
    return repeated / len(documents)
