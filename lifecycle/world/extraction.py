"""From a sentence or two to JSON: who, what and where, as fields."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from lifecycle.world.stories import Story, write_story

PHRASINGS = ("Write the facts as JSON.", "Give me that as JSON.", "Please turn this into JSON.")


@dataclass(frozen=True, slots=True)
class Extraction:
    """A text, what to do with it, and the JSON that is right."""

    request: str
    facts: dict[str, str]

    @property
    def answer(self) -> str:
        """The facts as JSON, in the order of the text."""
        return json.dumps(self.facts)


def draw_extraction(rng: random.Random, *, held_out: bool = False) -> Extraction:
    """Two or three sentences about one person who has one thing, and the request to write them as JSON."""
    while True:
        story = write_story(rng, rng.randint(2, 3), held_out=held_out)
        if len(story.world.place_of) == len(story.world.things_of(story.events[0].who)) == 1 and not story.world.number_of:
            return Extraction(f"{story.text}\n{rng.choice(PHRASINGS)}", facts_of(story))


def facts_of(story: Story) -> dict[str, str]:
    """Person, place, and thing with its colour, as they stand at the end of the story."""
    world = story.world
    (person,), (thing,) = world.place_of, world.things_of(story.events[0].who)
    return {"person": person, "place": f"the {world.place_of[person]}", "thing": f"a {world.colour_of[thing]} {thing}"}
