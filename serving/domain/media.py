"""A picture, a clip or a sound that somebody sent, decoded: the same whatever the format it came in; and its place in a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Media:
    """What a media part of a message shows.

    `digest` names the content: equal digests are equal frames at equal times. `frames` are uint8 RGB arrays
    [height, width, 3], one for an image; of a sound there is one, uint8 [n, 2]: n samples of 16 bits, the lower byte first,
    16,000 a second. `times` are the seconds at which the frames are shown, from the clip's beginning.
    """

    kind: Literal["image", "video", "audio"]
    digest: str
    frames: tuple[Any, ...]
    times: tuple[float, ...] = (0.0,)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture is in a prompt, and what the model's vision tower is given of it.

    `digest` names what the tower is given: equal digests are equal embeddings. `spans` are the (first, after the last)
    positions of its placeholder tokens, in order; several where a picture is cut into tiles. `inputs` are the tower's
    arguments, tensors whose first dimension is one that pictures may share.
    """

    digest: str
    spans: tuple[tuple[int, int], ...]
    inputs: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def start(self) -> int:
        """Position of the first placeholder."""
        return self.spans[0][0]

    @property
    def stop(self) -> int:
        """Position after the last placeholder."""
        return self.spans[-1][1]

    @property
    def size(self) -> int:
        """Placeholders, each of which has an embedding."""
        return sum(stop - start for start, stop in self.spans)

    def within(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """What lies in positions `start` to `stop`: (position, first embedding, how many) of each run."""
        before = 0
        for first, last in self.spans:
            low, high = max(first, start), min(last, stop)
            if low < high:
                yield low, before + low - first, high - low
            before += last - first


def up_to(media: Sequence[Placement], start: int, stop: int, most: float) -> tuple[int, int]:
    """How far a step from position `start` comes with at most so many pictures, `stop` at the furthest; and how many it shows.

    A picture that the step before was cut in counts again: whether its embedding is still there is not known here.
    """
    shown = 0
    for placement in media:
        if placement.start >= stop:
            break
        if placement.stop <= start:
            continue
        if shown == most:
            return max(start, placement.start), shown
        shown += 1
    return stop, shown
