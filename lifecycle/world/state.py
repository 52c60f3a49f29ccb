"""The simulated world: who is where, who has what and how many, how it was before, and what may happen next."""

from __future__ import annotations

from dataclasses import dataclass, field

from lifecycle.world.vocabulary import NUMBERS

MOST = len(NUMBERS) - 1
"""Nobody holds more of one kind of goods: numbers have words up to here."""


class Inconsistent(Exception):
    """An event that cannot happen in the world as it stands; the message says why."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens; unused fields are None.

    `kind` is be, own, go, find, give, drop, take, paint or thank, or, of goods that come in numbers, stock, gather, use
    or share. Somebody goes for a `feeling`, for a `thing` that is there, or for no reason that is told.
    """

    kind: str
    who: str
    place: str | None = None
    thing: str | None = None
    colour: str | None = None
    to: str | None = None
    feeling: str | None = None
    goods: str | None = None
    number: int | None = None


@dataclass(slots=True)
class World:
    """State after a number of events. A thing is either held by a person or lies in a place."""

    place_of: dict[str, str] = field(default_factory=dict)
    holder_of: dict[str, str | None] = field(default_factory=dict)  # None: lies in thing_place
    thing_place: dict[str, str] = field(default_factory=dict)
    colour_of: dict[str, str] = field(default_factory=dict)
    number_of: dict[tuple[str, str], int] = field(default_factory=dict)  # (person, goods)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)  # (person, place): feeling or thing
    came_from: dict[str, str] = field(default_factory=dict)  # person: the place before this one
    had_before: dict[str, str] = field(default_factory=dict)  # thing: who had it before whoever has it now
    colour_before: dict[str, str] = field(default_factory=dict)
    last: Event | None = None

    def apply(self, event: Event) -> None:
        """Make the event happen; raises Inconsistent and changes nothing when it cannot."""
        if event.kind != "be" and event.who not in self.place_of:
            raise Inconsistent(f"{event.who} has not appeared yet")
        getattr(self, f"_{event.kind}")(event)
        self.last = event

    def where(self, thing: str) -> str:
        """The place of a thing, held or not."""
        holder = self.holder_of[thing]
        return self.place_of[holder] if holder else self.thing_place[thing]

    def things_of(self, person: str) -> list[str]:
        """What a person holds, in the order in which the things appeared."""
        return [thing for thing, holder in self.holder_of.items() if holder == person]

    def with_whom(self, person: str) -> list[str]:
        """Who is in the same place, in the order in which they appeared."""
        here = self.place_of[person]
        return [other for other, place in self.place_of.items() if place == here and other != person]

    def _be(self, event: Event) -> None:
        if event.who in self.place_of:
            raise Inconsistent(f"{event.who} is already in the {self.place_of[event.who]}")
        self.place_of[event.who] = event.place

    def _own(self, event: Event) -> None:
        if event.thing in self.holder_of:
            raise Inconsistent(f"the {event.thing} has appeared before")
        self.holder_of[event.thing] = event.who
        self.colour_of[event.thing] = event.colour

    _find = _own

    def _go(self, event: Event) -> None:
        if self.place_of[event.who] == event.place:
            raise Inconsistent(f"{event.who} is in the {event.place} already")
        if event.thing:
            if event.thing not in self.holder_of or self.where(event.thing) != event.place:
                raise Inconsistent(f"the {event.thing} is not in the {event.place}")
            if self.holder_of[event.thing] == event.who:
                raise Inconsistent(f"{event.who} has the {event.thing} already")
        self.came_from[event.who] = self.place_of[event.who]
        self.place_of[event.who] = event.place
        self.reasons.pop((event.who, event.place), None)
        if event.feeling or event.thing:
            self.reasons[event.who, event.place] = event.feeling or event.thing

    def _give(self, event: Event) -> None:
        self._must_hold(event.who, event.thing)
        self._must_meet(event, event.thing)
        self._hand_over(event.thing, event.to)

    def _drop(self, event: Event) -> None:
        self._must_hold(event.who, event.thing)
        self._hand_over(event.thing, None)
        self.thing_place[event.thing] = self.place_of[event.who]

    def _take(self, event: Event) -> None:
        lies_here = event.thing in self.holder_of and self.holder_of[event.thing] is None
        if not lies_here or self.thing_place[event.thing] != self.place_of[event.who]:
            raise Inconsistent(f"no {event.thing} lies in the {self.place_of[event.who]}")
        self.holder_of[event.thing] = event.who

    def _paint(self, event: Event) -> None:
        self._must_hold(event.who, event.thing)
        if self.colour_of[event.thing] == event.colour:
            raise Inconsistent(f"the {event.thing} is {event.colour} already")
        self.colour_before[event.thing] = self.colour_of[event.thing]
        self.colour_of[event.thing] = event.colour

    def _thank(self, event: Event) -> None:
        last = self.last
        if last is None or last.kind not in ("give", "share") or (last.who, last.to) != (event.to, event.who):
            raise Inconsistent(f"{event.to} has given {event.who} nothing to be thanked for")

    def _stock(self, event: Event) -> None:
        if (event.who, event.goods) in self.number_of:
            raise Inconsistent(f"{event.who} has {event.goods} already")
        self._set_number(event.who, event.goods, event.number)

    def _gather(self, event: Event) -> None:
        self._set_number(event.who, event.goods, self._number(event) + event.number)

    def _use(self, event: Event) -> None:
        self._set_number(event.who, event.goods, self._left(event))

    def _share(self, event: Event) -> None:
        left = self._left(event)
        self._must_meet(event, event.goods)
        self._set_number(event.to, event.goods, self.number_of.get((event.to, event.goods), 0) + event.number)
        self._set_number(event.who, event.goods, left)

    def _number(self, event: Event) -> int:
        if (event.who, event.goods) not in self.number_of:
            raise Inconsistent(f"{event.who} does not have {event.goods}")
        return self.number_of[event.who, event.goods]

    def _left(self, event: Event) -> int:
        left = self._number(event) - event.number
        if left < 0:
            raise Inconsistent(f"{event.who} has only {NUMBERS[left + event.number]} {event.goods}")
        return left

    def _set_number(self, person: str, goods: str, number: int) -> None:
        if number > MOST:
            raise Inconsistent(f"{number} {goods} are more than {person} can count")
        self.number_of[person, goods] = number

    def _hand_over(self, thing: str, to: str | None) -> None:
        self.had_before[thing] = self.holder_of[thing]
        self.holder_of[thing] = to

    def _must_hold(self, person: str, thing: str) -> None:
        if self.holder_of.get(thing) != person:
            raise Inconsistent(f"{person} does not have the {thing}")

    def _must_meet(self, event: Event, what: str) -> None:
        if event.to == event.who:
            raise Inconsistent(f"{event.who} gives the {what} to {event.who}")
        if self.place_of.get(event.to) != self.place_of[event.who]:
            raise Inconsistent(f"{event.to} is not in the {self.place_of[event.who]}")
