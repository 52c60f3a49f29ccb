"""Whether an answer is right, decided by the world and never by a model.

A check is a JSON-able dict with a "type" and what that type needs, so that frozen evaluation sets carry their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from lifecycle.errors import LifecycleError
from lifecycle.world.narration import parse, tell
from lifecycle.world.state import Inconsistent, World

Check = dict[str, Any]
_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")  # "1,055" and "55.5" whole: neither is 55
_DENIAL = re.compile(r"\b(?:not|never)\b|n['\u2019]t\b", re.IGNORECASE)
_WHY_NOT = r"(?:[^.!?<,]*\b(?:not|no|nothing|nobody)\b[^.!?<,]*, so )?"
_DONT_KNOW = re.compile(_WHY_NOT + r"i don['\u2019]t know\b(?!.*\bbut\b)[^.!?<]*[.!?]?", re.IGNORECASE)


def verify(check: Check, answer: str) -> bool:
    """True when `answer` (the assistant's text, tool-call markers kept) passes; raises LifecycleError for an unknown type."""
    kind = check.get("type")
    if kind not in _VERIFIERS:
        raise LifecycleError(f'unknown check "{kind}": choose one of {", ".join(sorted(_VERIFIERS))}')
    return _VERIFIERS[kind](check, answer.strip())


def calls_in(answer: str) -> list[dict[str, Any] | None]:
    """The tool calls in an answer; None for one that is not a JSON object."""
    found: list[dict[str, Any] | None] = []
    for text in _CALL.findall(answer):
        try:
            call = json.loads(text)
        except json.JSONDecodeError:
            call = None
        found.append(call if isinstance(call, dict) else None)
    return found


def _names(check: Check, answer: str) -> bool:
    """The key word is there, none of its rivals is, nothing is denied, and the answer is one short sentence."""
    words = re.findall(r"\w+", answer)
    plain = not _DENIAL.search(answer) and "<tool_call>" not in answer
    return plain and check["key"] in words and not set(words) & set(check["rivals"]) and len(words) <= 12


def _number(check: Check, answer: str) -> bool:
    """The last number is the right one, written as the world writes it."""
    return _NUMBER.findall(answer)[-1:] == [str(check["value"])] and "<tool_call>" not in answer


def _call(check: Check, answer: str) -> bool:
    return calls_in(answer) == [{"name": check["name"], "arguments": check["arguments"]}]


def _any_call(check: Check, answer: str) -> bool:
    return "<tool_call>" in answer


def _story(check: Check, answer: str) -> bool:
    """Consistent, three to twelve sentences, every required word in it, and the right ending where one was asked for."""
    words = set(re.findall(r"\w+", answer))
    sentences = len(re.findall(r"[.!?]", answer))
    if not 3 <= sentences <= 12 or not words >= set(check["words"]):
        return False
    try:
        world = tell(parse(answer))
    except Inconsistent:
        return False
    return _ends_so(check.get("ending", {}), world)


def _ends_so(ending: dict[str, str], world: World) -> bool:
    """Whether the person that the ending names is in its place and has its thing, where it names any."""
    in_place = "place" not in ending or world.place_of.get(ending["person"]) == ending["place"]
    return in_place and ("thing" not in ending or world.holder_of.get(ending["thing"]) == ending["person"])


def _text(check: Check, answer: str) -> bool:
    """Exactly the right words, after whatever was thought and but for a full stop."""
    return _spoken(answer).rstrip(".") == check["text"]


def _json(check: Check, answer: str) -> bool:
    """A JSON object with exactly the right fields."""
    try:
        return json.loads(_spoken(answer)) == check["value"]
    except ValueError:
        return False


def _spoken(answer: str) -> str:
    """What is said after what is thought."""
    return answer.rpartition("</think>")[2].strip()


def _dont_know(check: Check, answer: str) -> bool:
    """Says so, and perhaps before it what is not told, and nothing else: a guess after it is still a guess."""
    return _DONT_KNOW.fullmatch(answer) is not None


_VERIFIERS: dict[str, Callable[[Check, str], bool]] = {
    "names": _names,
    "number": _number,
    "call": _call,
    "any call": _any_call,
    "story": _story,
    "don't know": _dont_know,
    "text": _text,
    "json": _json,
}
