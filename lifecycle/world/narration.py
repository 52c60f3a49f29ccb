"""Events to sentences and back, by one grammar: it narrates and parses, so a story can be checked by reading it."""

from __future__ import annotations

import random
import re

from lifecycle.world.state import Event, Inconsistent, World
from lifecycle.world.vocabulary import COLOURS, FEELINGS, GOODS, NUMBERS, PEOPLE, PLACES, PRONOUN, THINGS

# {a} is the one who acts: a name, or a pronoun when the sentence before was about the same person; {p} is that pronoun.
# A word in capitals is one of its alternatives below, which mean the same.
SENTENCES: dict[str, tuple[str, ...]] = {
    "be": ("{a} WAS in the {place}.",),
    "own": ("{a} had a {colour} {thing}.", "{a} carried a {colour} {thing}."),
    "go": ("{a} WENT to the {place}.",),
    "go for a feeling": ("{a} FELT {feeling}, so {p} WENT to the {place}.", "{a} WENT to the {place} because {p} FELT {feeling}."),
    "go for a thing": ("{a} wanted the {thing}, so {p} WENT to the {place}.", "{a} WENT to the {place} to look for the {thing}."),
    "find": ("{a} found a {colour} {thing}.", "{a} saw a {colour} {thing} and TOOK it."),
    "give": ("{a} GAVE the {thing} to {b}.", "{a} GAVE {b} the {thing}."),
    "drop": ("{a} put the {thing} down.", "{a} left the {thing} there.", "{a} dropped the {thing}."),
    "take": ("{a} TOOK the {thing}.", "{a} picked up the {thing}."),
    "paint": ("{a} painted the {thing} {colour}.",),
    "thank": ("{a} thanked {b}.", "{a} said thank you to {b}."),
    "stock": ("{a} had {number} {goods}.", "{a} carried {number} {goods}."),
    "gather": ("{a} GATHERED {number} more {goods}.",),
    "use": ("{a} USED {number} of the {goods}.",),
    "share": ("{a} GAVE {number} of the {goods} to {b}.", "{a} GAVE {b} {number} of the {goods}."),
}
ALTERNATIVES: dict[str, tuple[str, ...]] = {
    "WAS": ("was", "sat", "stood", "played", "waited", "rested"),
    "WENT": ("went", "walked", "ran", "hurried", "wandered"),
    "FELT": ("was", "felt"),
    "TOOK": ("took", "grabbed"),
    "GAVE": ("gave", "handed", "passed"),
    "GATHERED": ("found", "got", "bought"),
    "USED": ("lost", "sold", "used"),
}
LEADS = ("Then ", "Soon ", "After that ", "Later ", "A little later ", "In the evening ", "Suddenly ")
OPENINGS = ("One day ", "Once ", "In the morning ", "Yesterday ", "On Sunday ")
_ALTERNATIVE = re.compile("|".join(ALTERNATIVES))


def _how(event: Event) -> str:
    """The row of SENTENCES that tells an event."""
    if event.kind != "go" or not (event.feeling or event.thing):
        return event.kind
    return "go for a feeling" if event.feeling else "go for a thing"


def narrate(events: list[Event], rng: random.Random, *, pronouns: float = 0.5) -> str:
    """Sentences for the events, in order, with varied templates, verbs and openings.

    `pronouns`: how often who acts again is "he" or "she".
    """
    sentences, subject = [], None
    for number, event in enumerate(events):
        lead = rng.choice(OPENINGS) if number == 0 else rng.choice(LEADS) if rng.random() < 0.25 else ""
        pronoun = PRONOUN[event.who]
        acts = pronoun if subject == event.who and rng.random() < pronouns else event.who
        template = _ALTERNATIVE.sub(lambda word: rng.choice(ALTERNATIVES[word[0]]), rng.choice(SENTENCES[_how(event)]))
        sentence = lead + template.format(
            a=acts,
            p=pronoun,
            b=event.to,
            place=event.place,
            thing=event.thing,
            colour=event.colour,
            feeling=event.feeling,
            goods=event.goods,
            number=None if event.number is None else NUMBERS[event.number],
        )
        sentences.append(sentence[0].upper() + sentence[1:])
        subject = event.who
    return " ".join(sentences)


_CLASSES = {
    "b": frozenset(PEOPLE),
    "place": frozenset(PLACES),
    "thing": frozenset(THINGS),
    "colour": frozenset(COLOURS),
    "feeling": frozenset(FEELINGS),
    "goods": frozenset(GOODS),
    "number": frozenset(NUMBERS[1:]),
}
_PEOPLE = frozenset(PEOPLE)


def _pattern(template: str) -> str:
    """Any word in each place of a template: whether it is one of the right class is looked up afterwards, which is quicker."""
    words = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\w+)", re.escape(template))
    return _ALTERNATIVE.sub(lambda word: f"(?:{'|'.join(ALTERNATIVES[word[0]])})", words)


_LEAD = f"(?:{'|'.join(OPENINGS + LEADS)})?"
_PATTERNS = [
    (kind.split()[0], re.compile(_LEAD + _pattern(template))) for kind, templates in SENTENCES.items() for template in templates
]


def parse(text: str) -> list[Event]:
    """The events that a story tells. Raises Inconsistent for a sentence or a pronoun that has no meaning."""
    events: list[Event] = []
    for sentence in re.findall(r"[^.!?]*[.!?]*", text):
        sentence = sentence.strip()
        if sentence:
            events.append(_parse_sentence(sentence, events[-1].who if events else None))
    return events


def _parse_sentence(sentence: str, subject: str | None) -> Event:
    for kind, pattern in _PATTERNS:
        match = pattern.fullmatch(sentence)
        if not match:
            continue
        found = match.groupdict()
        if any(word not in _CLASSES[name] for name, word in found.items() if name in _CLASSES):
            continue
        who = found["a"]
        if who.lower() in ("he", "she"):
            if subject is None or PRONOUN[subject] != who.lower():
                raise Inconsistent(f'nobody is "{who}" in: {sentence}')
            who = subject
        elif who not in _PEOPLE:
            continue
        if "p" in found and found["p"] != PRONOUN[who]:
            raise Inconsistent(f'{who} is not "{found["p"]}"')
        fields = {name: found.get(name) for name in ("place", "thing", "colour", "feeling", "goods")}
        number = NUMBERS.index(found["number"]) if "number" in found else None
        return Event(kind, who, to=found.get("b"), number=number, **fields)
    raise Inconsistent(f"no meaning in: {sentence}")


def tell(events: list[Event]) -> World:
    """The world after the events; raises Inconsistent at the first that cannot happen."""
    world = World()
    for event in events:
        world.apply(event)
    return world


def contradiction(text: str) -> str | None:
    """Why a story is not consistent, or None when it is."""
    try:
        tell(parse(text))
    except Inconsistent as reason:
        return str(reason)
    return None
