"""Stories: what happens is drawn from what may happen, so that every story is consistent by construction."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lifecycle.world.holdout import owner_is_held_out
from lifecycle.world.narration import narrate, parse, tell
from lifecycle.world.state import Event, Inconsistent, World
from lifecycle.world.vocabulary import COLOURS, FEELINGS, GOODS, PEOPLE, PLACES, THINGS

Option = tuple[float, Event]
"""What may happen next and how often it should: the rarer a chance, the larger its weight, so that all are about as frequent."""


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


@dataclass(frozen=True, slots=True)
class Plan:
    """What a story is wished to hold: who, a thing, a place, and how it ends for the first person (in a place, or with a thing)."""

    people: Sequence[str] = ()
    thing: str | None = None
    place: str | None = None
    ends_in: str | None = None
    ends_with: str | None = None

    def is_met(self, world: World, events: Sequence[Event]) -> bool:
        """True when what happened holds all that was wished for."""
        places, things = {event.place for event in events}, set(world.holder_of)
        first = self.people[0] if self.people else None
        return (
            (self.thing is None or self.thing in things)
            and (self.place is None or self.place in places)
            and (self.ends_in is None or world.place_of.get(first) == self.ends_in)
            and (self.ends_with is None or world.holder_of.get(self.ends_with) == first)
        )


def tells_held_out_owner(text: str) -> bool:
    """True when a story, told by whomever, gives some person a thing that training never gives them."""
    try:
        return any(owner_is_held_out(*pair) for pair in _ownerships(parse(text)))
    except Inconsistent:  # it tells nothing
        return False


def _ownerships(events: Sequence[Event]) -> list[tuple[str, str]]:
    hands = {"own": "who", "find": "who", "take": "who", "give": "to"}
    return [(getattr(event, hands[event.kind]), event.thing) for event in events if event.kind in hands]


def write_story(rng: random.Random, sentences: int, plan: Plan = Plan(), *, held_out: bool = False) -> Story:
    """A consistent story of `sentences` sentences, or a few more, that does what is planned.

    With `held_out` at least one (person, thing) pair is one that training never shows; without, none is.
    """
    while True:
        world, events = _happenings(rng, sentences, plan, held_out)
        if not plan.is_met(world, events):
            continue
        story = Story(tuple(events), narrate(events, rng), world)
        if story.uses_held_out_owner == held_out:
            return story


def introduce(rng: random.Random) -> Story:
    """A story in which nothing happens: where each of two people is and what each has, with their names and no pronouns.

    Nobody has a thing that training never gives them.
    """
    while True:
        cast, places, things = (rng.sample(every, 2) for every in (PEOPLE, PLACES, THINGS))
        if not any(map(owner_is_held_out, cast, things)):
            break
    events: list[Event] = []
    for person, place, thing, colour in zip(cast, places, things, rng.sample(COLOURS, 2), strict=True):
        events += [Event("be", person, place=place), Event("own", person, thing=thing, colour=colour)]
    return Story(tuple(events), narrate(events, rng, pronouns=0), tell(events))


def _happenings(rng: random.Random, sentences: int, plan: Plan, held_out: bool) -> tuple[World, list[Event]]:
    crowd = 1 if sentences <= 2 else 2 if sentences <= 7 else 3
    cast = list(plan.people) or rng.sample(PEOPLE, crowd)
    home = rng.sample(PLACES, 4)
    for place in {plan.place, plan.ends_in} - {None, *home}:
        home[rng.randrange(1, 4) if home[0] in (plan.place, plan.ends_in) else 0] = place
    wished = [thing for thing in dict.fromkeys((plan.thing, plan.ends_with)) if thing]
    fresh = wished + [thing for thing in rng.sample(THINGS, 3) if thing not in wished]
    goods = rng.sample(GOODS, 2)
    allowed = lambda who, thing: held_out or not owner_is_held_out(who, thing)  # noqa: E731
    world, events = World(), []

    def happen(event: Event) -> None:
        world.apply(event)
        events.append(event)

    for number, person in enumerate(cast):
        # Half of the time both start in the same place: only people who meet can give.
        happen(Event("be", person, place=home[0] if rng.random() < 0.5 else home[number % len(home)]))
        if len(events) < sentences and rng.random() < 0.75:
            if rng.random() < 0.2 and not wished:
                happen(Event("stock", person, goods=goods[0], number=rng.randint(2, 9)))
            elif allowed(person, fresh[0]):
                happen(Event("own", person, thing=fresh.pop(0), colour=rng.choice(COLOURS)))
    while len(events) < sentences:
        person = rng.choice(cast)
        options = [
            option
            for kind in _OPTIONS
            for option in kind(rng, world, person, home=home, fresh=fresh, goods=goods, allowed=allowed)
        ]
        event = rng.choices([event for _, event in options], [weight for weight, _ in options])[0]
        happen(event)
        if event.kind == "find":
            fresh.pop(0)
    return world, events


def _ways(rng: random.Random, world: World, person: str, *, home, **_) -> list[Option]:
    """Going somewhere: for no reason, for a feeling, to where somebody is, or to what one wants."""
    here = world.place_of[person]
    feeling = rng.choice(FEELINGS) if rng.random() < 0.5 else None
    options = [(1.0, Event("go", person, place=rng.choice([spot for spot in home if spot != here]), feeling=feeling))]
    friends = [place for place in world.place_of.values() if place != here]
    if friends and world.things_of(person):
        options.append((1.2, Event("go", person, place=rng.choice(friends), feeling=feeling)))
    wanted = [thing for thing, holder in world.holder_of.items() if holder != person and world.where(thing) != here]
    if wanted:
        thing = rng.choice(wanted)
        options.append((1.2, Event("go", person, place=world.where(thing), thing=thing)))
    return options


def _hands(rng: random.Random, world: World, person: str, *, fresh, allowed, **_) -> list[Option]:
    """Finding, giving, taking, putting down and painting things."""
    here, company = world.place_of[person], world.with_whom(person)
    options = []
    if fresh and allowed(person, fresh[0]):
        options.append((1.0, Event("find", person, thing=fresh[0], colour=rng.choice(COLOURS))))
    for thing, holder in world.holder_of.items():
        if holder == person:
            colour = rng.choice([colour for colour in COLOURS if colour != world.colour_of[thing]])
            options += [(0.6, Event("drop", person, thing=thing)), (0.3, Event("paint", person, thing=thing, colour=colour))]
            options += [(2.5, Event("give", person, to=other, thing=thing)) for other in company if allowed(other, thing)]
        elif holder is None and world.thing_place[thing] == here and allowed(person, thing):
            options.append((2.0, Event("take", person, thing=thing)))
    return options


def _numbers(rng: random.Random, world: World, person: str, *, goods, **_) -> list[Option]:
    """Goods that come in numbers: more of them, fewer of them, some for somebody else."""
    options = []
    for kind in goods:
        number = world.number_of.get((person, kind))
        if number is None:
            if not any(there == kind for _, there in world.number_of):
                options.append((0.25, Event("stock", person, goods=kind, number=rng.randint(2, 9))))
            continue
        if number <= 9:
            options.append((0.6, Event("gather", person, goods=kind, number=rng.randint(1, 3))))
        if number:
            part = rng.randint(1, min(number, 4))
            options.append((0.6, Event("use", person, goods=kind, number=part)))
            options += [
                (1.5, Event("share", person, to=other, goods=kind, number=part))
                for other in world.with_whom(person)
                if world.number_of.get((other, kind), 0) <= 8
            ]
    return options


def _thanks(rng: random.Random, world: World, person: str, **_) -> list[Option]:
    """Who was just given something may say thank you."""
    last = world.last
    if last.kind in ("give", "share") and last.to == person:
        return [(1.5, Event("thank", person, to=last.who))]
    return []


_OPTIONS: tuple[Callable[..., list[Option]], ...] = (_ways, _hands, _numbers, _thanks)
