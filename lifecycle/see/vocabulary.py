"""Words that pictures need and stories never had, each as one token: what is several tokens has no vector of its own to be told by.

A byte-level BPE tokenizer joins pairs in the order in which it learnt them. Pairs that are learnt later come after all others, so
whatever has no such word in it is written as before.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from lifecycle.model.decoder import Decoder
from lifecycle.model.widening import tables, widened
from lifecycle.world.sights import words

NAMES = (*words.DRAWINGS, *words.SHAPES)
SAID = (*words.COLOURS, *words.COUNTS, *words.EVENTS, *itertools.chain(*(place.split() for place in words.PLACES)),
        "above", "below", "moves", "beginning", "end", "larger", "shows")  # fmt: skip
"""What is said of them."""
ASIDE = 0.35
"""How far the row of a plural is from its singular's, beside the length of a word's own part."""


def with_words(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer with a token for each word of pictures, a space before it; ids that it has stay what they are."""
    backend = tokenizer.backend_tokenizer
    known = json.loads(backend.to_str())
    vocabulary, merges = known["model"]["vocab"], known["model"]["merges"]
    joined = {tuple(pair) for pair in merges}
    for word in _needed():
        first, *rest = backend.encode(f" {word}", add_special_tokens=False).tokens
        for piece in rest:
            if (first, piece) not in joined:
                merges.append([first, piece])
                joined.add((first, piece))
                vocabulary.setdefault(first + piece, len(vocabulary))
            first += piece
        if rest:  # the next word may have the same beginning
            backend = Tokenizer.from_str(json.dumps(known))
    return remade(tokenizer, json.dumps(known))


def remade(tokenizer: PreTrainedTokenizerBase, written: str, names: dict[str, str] | None = None, **changes: str) -> PreTrainedTokenizerBase:
    """The same tokenizer around another backend, as JSON; `names` says which special tokens are called otherwise there."""
    roles = {role: getattr(tokenizer, role) for role in ("bos_token", "eos_token", "pad_token")}
    special = [(names or {}).get(name, name) for name in tokenizer.all_special_tokens]
    told = {"chat_template": tokenizer.chat_template, "clean_up_tokenization_spaces": False, **changes}
    return type(tokenizer)(tokenizer_object=Tokenizer.from_str(written), **roles, extra_special_tokens=[name for name in special if name not in roles.values()], **told)


@torch.no_grad()
def knowing(decoder: Decoder, tokenizer: PreTrainedTokenizerBase, known: int, seed: int = 0) -> Decoder:
    """The model with rows for the tokens from id `known` on: like any word's, a plural's near its singular's."""
    wider = widened(decoder, len(tokenizer))
    generator = torch.Generator().manual_seed(seed)
    for old, table in zip(tables(decoder), tables(wider), strict=True):
        middle, spread = old.mean(0), old.std(0)
        table[len(old) :] = middle + spread * torch.randn(table[len(old) :].shape, generator=generator)
        for one, many in _numbers(tokenizer):
            if many >= known:
                table[many] = middle + (table[one] - middle + ASIDE * (table[many] - middle)) / (1 + ASIDE**2) ** 0.5
    return wider


def _needed() -> Sequence[str]:
    """The words, each once."""
    return list(dict.fromkeys([*NAMES, *map(words.plural, NAMES), *SAID]))


def _numbers(tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, int]]:
    """The tokens of every name and of its plural, where these are two."""
    pairs = ([tokenizer.encode(f" {word}", add_special_tokens=False) for word in (name, words.plural(name))] for name in NAMES)
    return [(one[0], many[0]) for one, many in pairs if len(one) == len(many) == 1 and one != many]
