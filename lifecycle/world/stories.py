"""Stories: what happens is drawn from what may happen, so that every story is consistent by construction."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from lifecycle.world.holdout import owner_is_held_out
from lifecycle.world.narration import narrate, parse, tell
from lifecycle.world.state import Event, Inconsistent, World
from lifecycle.world.vocabulary import COLOURS, FEELINGS, PEOPLE, PLACES, THINGS


@dataclass(frozen=True, slots=True)
class Story:
    """What happened, how it is told, and how the world stands afterwards."""

    events: tuple[Event, ...]
    text: str
    world: World

    @property
    def uses_held_out_owner(self) -> bool:
        """True when some person gets a thing that training never gives them."""
        return any(owner_is_held_out(*pair) for pair in _ownerships(self.events))


def tells_held_out_owner(text: str) -> bool:
    """True when a story, told by whomever, gives some person a thing that training never gives them."""
    try:
        return any(owner_is_held_out(*pair) for pair in _ownerships(parse(text)))
    except Inconsistent:  # it tells nothing
        return False


def _ownerships(events: Sequence[Event]) -> list[tuple[str, str]]:
    hands = {"own": "who", "find": "who", "take": "who", "give": "to"}
    return [(getattr(event, hands[event.kind]), event.thing) for event in events if event.kind in hands]


def write_story(
    rng: random.Random,
    sentences: int,
    *,
    people: Sequence[str] = (),
    thing: str | None = None,
    place: str | None = None,
    held_out: bool = False,
) -> Story:
    """A consistent story of about `sentences` sentences in which the given people, thing and place occur.

    With `held_out` at least one (person, thing) pair is one that training never shows; without, none is.
    """
    while True:
        events = _happenings(rng, sentences, list(people), thing, place, held_out)
        mentioned = {event.place for event in events} | {event.thing for event in events}
        if (thing and thing not in mentioned) or (place and place not in mentioned):
            continue
        story = Story(tuple(events), narrate(events, rng), tell(events))
        if story.uses_held_out_owner == held_out:
            return story


def _happenings(rng, sentences, people, thing, place, held_out) -> list[Event]:
    cast = people or rng.sample(PEOPLE, 1 if sentences <= 2 else 2)
    home = rng.sample(PLACES, 4)
    if place and place not in home:
        home[rng.randrange(2)] = place
    fresh = rng.sample(THINGS, 3)
    if thing:
        fresh = [thing] + [other for other in fresh if other != thing]
    world, events = World(), []

    def happen(event: Event) -> None:
        world.apply(event)
        events.append(event)

    for number, person in enumerate(cast):
        # Half of the time both start in the same place: only people who meet can give.
        happen(Event("be", person, place=home[0] if rng.random() < 0.5 else home[number % len(home)]))
        if fresh and len(events) < sentences and rng.random() < 0.7:
            happen(Event("own", person, thing=fresh.pop(0), colour=rng.choice(COLOURS)))
    while len(events) < sentences:
        happen(_next_event(rng, world, cast, home, fresh, held_out))
    return events


def _next_event(rng, world: World, cast, home, fresh: list[str], held_out: bool) -> Event:
    """One event that may happen now; the rarer kinds get the larger weights so that all are about as frequent."""
    person = rng.choice(cast)
    here = world.place_of[person]
    allowed = lambda who, thing: held_out or not owner_is_held_out(who, thing)  # noqa: E731
    mine = world.things_of(person)
    lying = [t for t, holder in world.holder_of.items() if holder is None and world.thing_place[t] == here]
    company = [other for other in cast if other != person and world.place_of[other] == here]
    options: list[tuple[float, Event]] = []
    elsewhere = [spot for spot in home if spot != here]
    feeling = rng.choice(FEELINGS) if rng.random() < 0.4 else None
    options.append((1.5, Event("go", person, place=rng.choice(elsewhere), feeling=feeling)))
    friends = [world.place_of[other] for other in cast if other != person and world.place_of[other] != here]
    if friends and mine:
        options.append((1.5, Event("go", person, place=rng.choice(friends), feeling=feeling)))
    if fresh and allowed(person, fresh[0]):
        options.append((1.0, Event("find", person, thing=fresh[0], colour=rng.choice(COLOURS))))
    for thing in mine:
        options.append((0.7, Event("drop", person, thing=thing)))
        options += [(3.0, Event("give", person, to=other, thing=thing)) for other in company if allowed(other, thing)]
    options += [(2.0, Event("take", person, thing=thing)) for thing in lying if allowed(person, thing)]
    event = rng.choices([event for _, event in options], [weight for weight, _ in options])[0]
    if event.kind == "find":
        fresh.pop(0)
    return event
