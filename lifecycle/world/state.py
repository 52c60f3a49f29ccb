"""The simulated world: who is where, who has what, and what may happen next."""

from __future__ import annotations

from dataclasses import dataclass, field


class Inconsistent(Exception):
    """An event that cannot happen in the world as it stands; the message says why."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens. `kind` is be, own, go, find, give, drop or take; unused fields are None."""

    kind: str
    who: str
    place: str | None = None
    thing: str | None = None
    colour: str | None = None
    to: str | None = None
    feeling: str | None = None


@dataclass(slots=True)
class World:
    """State after a number of events. A thing is either held by a person or lies in a place."""

    place_of: dict[str, str] = field(default_factory=dict)
    holder_of: dict[str, str | None] = field(default_factory=dict)  # None: lies in thing_place
    thing_place: dict[str, str] = field(default_factory=dict)
    colour_of: dict[str, str] = field(default_factory=dict)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)  # (person, place): feeling

    def apply(self, event: Event) -> None:
        """Make the event happen; raises Inconsistent and changes nothing when it cannot."""
        if event.kind != "be" and event.who not in self.place_of:
            raise Inconsistent(f"{event.who} has not appeared yet")
        getattr(self, f"_{event.kind}")(event)

    def where(self, thing: str) -> str:
        """The place of a thing, held or not."""
        holder = self.holder_of[thing]
        return self.place_of[holder] if holder else self.thing_place[thing]

    def things_of(self, person: str) -> list[str]:
        """What a person holds, in the order in which the things appeared."""
        return [thing for thing, holder in self.holder_of.items() if holder == person]

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
        self.place_of[event.who] = event.place
        if event.feeling:
            self.reasons[event.who, event.place] = event.feeling

    def _give(self, event: Event) -> None:
        self._must_hold(event.who, event.thing)
        if event.to == event.who:
            raise Inconsistent(f"{event.who} gives the {event.thing} to {event.who}")
        if self.place_of.get(event.to) != self.place_of[event.who]:
            raise Inconsistent(f"{event.to} is not in the {self.place_of[event.who]}")
        self.holder_of[event.thing] = event.to

    def _drop(self, event: Event) -> None:
        self._must_hold(event.who, event.thing)
        self.holder_of[event.thing] = None
        self.thing_place[event.thing] = self.place_of[event.who]

    def _take(self, event: Event) -> None:
        lies_here = event.thing in self.holder_of and self.holder_of[event.thing] is None
        if not lies_here or self.thing_place[event.thing] != self.place_of[event.who]:
            raise Inconsistent(f"no {event.thing} lies in the {self.place_of[event.who]}")
        self.holder_of[event.thing] = event.who

    def _must_hold(self, person: str, thing: str) -> None:
        if self.holder_of.get(thing) != person:
            raise Inconsistent(f"{person} does not have the {thing}")
