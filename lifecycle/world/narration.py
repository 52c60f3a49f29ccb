"""Events to sentences and back. The same table narrates and parses, so a story can be checked by reading it."""

from __future__ import annotations

import random
import re

from lifecycle.world.state import Event, Inconsistent, World
from lifecycle.world.vocabulary import COLOURS, FEELINGS, PEOPLE, PLACES, PRONOUN, THINGS

# {a} is the one who acts: a name, or a pronoun when the sentence before was about the same person.
SENTENCES: dict[str, tuple[str, ...]] = {
    "be": ("{a} was in the {place}.", "{a} sat in the {place}.", "{a} played in the {place}."),
    "own": ("{a} had a {colour} {thing}.",),
    "go": ("{a} went to the {place}.", "{a} walked to the {place}.", "{a} ran to the {place}."),
    "go because": ("{a} was {feeling}, so {p} went to the {place}.", "{a} felt {feeling} and {p} ran to the {place}."),
    "find": ("{a} found a {colour} {thing}.", "{a} saw a {colour} {thing} and took it."),
    "give": ("{a} gave the {thing} to {b}.", "{a} gave {b} the {thing}.", "{a} handed the {thing} to {b}."),
    "drop": ("{a} put the {thing} down.", "{a} left the {thing} there."),
    "take": ("{a} took the {thing}.", "{a} picked up the {thing}."),
}
LEADS = ("Then ", "Soon ", "After that ", "Later ")
OPENINGS = ("One day ", "Once ", "In the morning ")


def narrate(events: list[Event], rng: random.Random) -> str:
    """Sentences for the events, in order, with varied templates, openings and pronouns."""
    sentences, subject = [], None
    for number, event in enumerate(events):
        kind = "go because" if event.feeling else event.kind
        lead = rng.choice(OPENINGS if number == 0 else LEADS) if rng.random() < 0.4 else ""
        pronoun = PRONOUN[event.who]
        acts = pronoun if subject == event.who and rng.random() < 0.5 else event.who
        sentence = lead + rng.choice(SENTENCES[kind]).format(
            a=acts, p=pronoun, b=event.to, place=event.place, thing=event.thing, colour=event.colour, feeling=event.feeling
        )
        sentences.append(sentence[0].upper() + sentence[1:])
        subject = event.who
    return " ".join(sentences)


def _pattern(template: str) -> str:
    either = "|".join
    groups = {
        "a": f"(?P<a>{either(PEOPLE)}|[Hh]e|[Ss]he)",
        "p": "(?P<p>he|she)",
        "b": f"(?P<b>{either(PEOPLE)})",
        "place": f"(?P<place>{either(PLACES)})",
        "thing": f"(?P<thing>{either(THINGS)})",
        "colour": f"(?P<colour>{either(COLOURS)})",
        "feeling": f"(?P<feeling>{either(FEELINGS)})",
    }
    return re.escape(template).replace(r"\{", "{").replace(r"\}", "}").format(**groups)


_LEAD = f"(?:{'|'.join(OPENINGS + LEADS)})?"
_PATTERNS = [
    (kind.split()[0], re.compile(_LEAD + _pattern(template)))
    for kind, templates in SENTENCES.items()
    for template in templates
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
        who = found["a"]
        if who.lower() in ("he", "she"):
            if subject is None or PRONOUN[subject] != who.lower():
                raise Inconsistent(f'nobody is "{who}" in: {sentence}')
            who = subject
        if "p" in found and found["p"] != PRONOUN[who]:
            raise Inconsistent(f'{who} is not "{found["p"]}"')
        fields = {name: found.get(name) for name in ("place", "thing", "colour", "feeling")}
        return Event(kind, who, to=found.get("b"), **fields)
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
