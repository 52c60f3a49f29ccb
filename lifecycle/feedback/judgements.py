"""What people think of answers, and how that becomes preference pairs and labelled answers to learn from."""

from __future__ import annotations

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SPEAKERS = ("system", "user", "assistant")
EDITED = "edited"
"""In place of a version, for an answer that a person wrote: an edit is kept as a comparison that the new text won."""
Kind = Literal["thumb", "comparison"]


@dataclass(frozen=True, slots=True)
class Feedback:
    """One judgement. A thumb is of one answer: `chosen` is 0 for up and None for down.

    A comparison is of two: `chosen` is the better one, None when neither is. `versions` says what gave each answer,
    like "sft/3", or `EDITED` for an answer that a person has put right; `created` is in Unix seconds.
    """

    kind: Kind
    tenant: str
    messages: tuple[dict[str, Any], ...]
    answers: tuple[str, ...]
    versions: tuple[str, ...]
    chosen: int | None
    comment: str | None = None
    id: str = field(default_factory=lambda: f"fb-{uuid.uuid4().hex}")
    created: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Preferences:
    """Rows of {"prompt", "chosen", "rejected"}, each a list of messages; `skipped` counts those with more than text.

    `lone` are thumbs that found no partner: {"prompt", "completion", "label"}, the label true for a liked answer.
    """

    rows: list[dict[str, list[dict[str, str]]]]
    skipped: int
    lone: list[dict[str, Any]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """As a JSONL file has them."""
        for row in self.rows:
            yield json.dumps(row) + "\n"


def preferences(everything: Iterable[Feedback]) -> Preferences:
    """Pairs of answers to the same prompt of which people prefer one, in the order in which the prompts came up.

    Votes are counted: a pair is left out when as many chose the one as the other, and a thumbed answer when as many
    liked it as did not. Liked and disliked answers to a prompt pair up one to one, so that no answer is in many pairs.
    """
    prompts: dict[str, list[dict[str, str]]] = {}
    compared: dict[str, dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
    thumbed: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    skipped = set()
    for one in everything:
        key = json.dumps(one.messages, sort_keys=True)
        if (prompt := plain_messages(one.messages)) is None:
            skipped.add(key)
            continue
        key = json.dumps(prompt)
        prompts.setdefault(key, prompt)
        if one.kind == "thumb":
            thumbed[key][one.answers[0]] += -1 if one.chosen is None else 1
        elif one.chosen is not None and one.answers[0] != one.answers[1]:
            better, worse = one.answers[one.chosen], one.answers[1 - one.chosen]
            first, second = sorted((better, worse))
            compared[key][first, second] += 1 if better == first else -1
    rows, lone = [], []
    for key, prompt in prompts.items():
        pairs = {(a, b) if votes > 0 else (b, a): None for (a, b), votes in compared[key].items() if votes}
        liked = [answer for answer, votes in thumbed[key].items() if votes > 0]
        disliked = [answer for answer, votes in thumbed[key].items() if votes < 0]
        for better, worse in zip(liked, disliked, strict=False):
            if (worse, better) not in pairs:  # a direct comparison says more
                pairs[better, worse] = None
        rows += [{"prompt": prompt, "chosen": _says(better), "rejected": _says(worse)} for better, worse in pairs]
        paired = {answer for pair in pairs for answer in pair}
        for answer in (*liked, *disliked):
            if answer not in paired:
                lone.append({"prompt": prompt, "completion": _says(answer), "label": answer in liked})
    return Preferences(rows, len(skipped), lone)


def plain_messages(messages: Sequence[dict[str, Any]]) -> list[dict[str, str]] | None:
    """Messages as pairs hold them, role and text, and what was thought; None when a tool or anything but text is part of the conversation."""
    plain = []
    for message in messages:
        role = "system" if message["role"] == "developer" else message["role"]
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(part["text"] for part in content)
        if role not in SPEAKERS or not isinstance(content, str) or message.get("tool_calls"):
            return None
        thought = {"reasoning_content": message["reasoning_content"]} if message.get("reasoning_content") else {}
        plain.append({"role": role, "content": content, **thought})
    return plain


def _says(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
