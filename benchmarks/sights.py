"""How fast the visual world is drawn, and what guessing reaches on its frozen sets.

    python benchmarks/sights.py            # writes benchmarks/sights.{json,md}

Rates are of seconds of CPU time in one process, samples, captions and questions included. "first" begins with no sprite drawn; "later" goes on with
what the cache then holds. The commonest answer of a frozen set is the share of its tasks that one answer gets right; where the
question names what there is to choose from, "the first" and "the second" are such answers.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator

from results import markdown, publish

from lifecycle.evaluation import sights
from lifecycle.world.sights import clips, illustrated, scenes
from lifecycle.world.sights.films import FORMATS, decode, encode
from lifecycle.world.sights.questions import NAMES, Question, said_in

FIRST, LATER, FILMS = 1000, 5000, 50
SIDES = ("left", "right", "above", "below")


def rate(work: Callable[[], int]) -> float:
    """What `work` says that it did, by seconds of CPU time."""
    start = time.process_time()
    return work() / (time.process_time() - start)


def look(stream: Iterator, number: int) -> int:
    """Draw so many, with all that is said about them."""
    for one in itertools.islice(stream, number):
        one.frames() if hasattr(one, "frames") else one.render()
        one.caption(), one.questions()
    return number


def speeds() -> list[dict[str, object]]:
    pictures, films = scenes(0), clips(0)
    frames = [clip.frames() for clip in itertools.islice(clips(1), FILMS)]
    rows = [
        {"what": "pictures, first", "per second": rate(lambda: look(pictures, FIRST))},
        {"what": "pictures, later", "per second": rate(lambda: look(pictures, LATER))},
        {"what": "clips of 8 frames", "per second": rate(lambda: look(films, FIRST))},
        {"what": "stories with a picture", "per second": rate(lambda: sum(one.scene.render().ndim > 0 for one in itertools.islice(illustrated(0), FIRST)))},
    ]
    for format in FORMATS:
        done = rate(lambda format=format: len([decode(encode(clip, format)) for clip in frames]))
        rows.append({"what": f"clips to {format} and back", "per second": done})
    return rows


def guesses() -> list[dict[str, object]]:
    rows = []
    for name in sights.SETS:
        questions = [task.question for task in sights.load(name)]
        found = Counter(map(found_by, questions))
        rows.append(
            {
                "set": name,
                "tasks": len(questions),
                "chance": sum(one.chance for one in questions) / len(questions),
                "commonest answer": found.most_common(1)[0][1] / len(questions),
            }
        )
    return rows


def found_by(question: Question) -> str:
    """What the answer says that the question does not, or which of the two things that the question names."""
    asked, answered = said_in(question.text), said_in(question.answer)
    if new := [word for word in answered if word not in asked]:
        return " ".join(new)
    named = [word for word in asked if word in SIDES] or [word for word in asked if word in NAMES]
    (chosen,) = [word for word in answered if word in named]
    return ("the first", "the second")[named.index(chosen)]


def main() -> None:
    fast, sets = speeds(), guesses()
    publish("sights", {"speed": fast, "sets": sets}, "The visual world", f"{markdown(fast)}\n{markdown(sets)}")


if __name__ == "__main__":
    main()
