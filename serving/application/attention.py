"""Use case: show where a model looked as it wrote an answer."""

from __future__ import annotations

from dataclasses import dataclass

from serving.application.ports import ServedModel
from serving.application.rendering import RenderChat, pictures_of
from serving.domain.errors import ContextLengthExceeded, InvalidRequest
from serving.domain.grid import Grid
from serving.domain.request import Prompt

MOST_WEIGHTS = 2**18
"""In one answer: its tokens times those of the pictures."""


@dataclass(frozen=True, slots=True)
class LookedAt:
    """A picture of the conversation, or one frame of a clip.

    `part` is the number of the picture or clip among all of the conversation, `frame` that of the frame in it, shown at `time`
    seconds; `height` and `width` are pixels. `thumbnail` is a data: address, for frames only.
    """

    part: int
    frame: int
    time: float
    height: int
    width: int
    grids: tuple[Grid, ...]
    thumbnail: str | None


@dataclass(frozen=True, slots=True)
class Glance:
    """One token of the answer. `share`: of its attention, how much fell on pictures, all their tokens together.

    `weights` [picture][grid][row by row] are parts of the whole attention of that token, which is 1.
    """

    token: int
    text: str
    share: float
    weights: list[list[list[float]]]


@dataclass(frozen=True, slots=True)
class ShowAttention:
    """A conversation that shows something, and its answer as a text or as token ids."""

    prompt: RenderChat
    answer: str | tuple[int, ...]
    layers: tuple[int, ...] | None = None

    def read(self, model: ServedModel) -> tuple[Prompt, tuple[int, ...]]:
        """Prompt and answer in tokens, both within what may be asked for. Raises `InvalidRequest` and its kinds."""
        if model.gaze is None:
            raise InvalidRequest(f'the model "{model.name}" does not see any pictures: ask one of stage see', param="model")
        if model.adapter is not None:
            raise InvalidRequest(f'"{model.name}" is an adapter: ask its base, {model.parent}', param="model")
        if not self.prompt.media:
            raise InvalidRequest("the messages show no picture and no clip", param="messages")
        prompt, tokenizer = self.prompt.prompt(model), model.tokenizer
        answer = tuple(tokenizer.encode_rendered(self.answer)) if isinstance(self.answer, str) else self.answer
        placeholders = {prompt.tokens[placed.start] for placed in prompt.media}
        if not answer or placeholders & {*answer} or max(answer) >= tokenizer.vocab_size:
            raise InvalidRequest(f'"answer" must hold tokens below {tokenizer.vocab_size}, none of a picture', param="answer")
        if (total := len(prompt.tokens) + len(answer)) > tokenizer.context_length:
            raise ContextLengthExceeded(
                f"conversation and answer have {total} tokens, and {model.name} reads at most {tokenizer.context_length}",
                param="messages",
            )
        if (weights := len(answer) * sum(placed.size for placed in prompt.media)) > MOST_WEIGHTS:
            raise InvalidRequest(
                f"{weights} weights are asked for, and at most {MOST_WEIGHTS} are told: send a shorter answer", param="answer"
            )
        return prompt, answer

    def pictures(self, model: ServedModel, prompt: Prompt) -> list[LookedAt]:
        """In their order. Raises `AttentionUndefined`."""
        sources = [(part, frame) for part, one in enumerate(self.prompt.media) for frame in range(len(one.frames))]
        shown = []
        for number, ((part, frame), picture) in enumerate(zip(sources, pictures_of(self.prompt.media), strict=True)):
            height, width = picture.frames[0].shape[:2]
            source, grids = self.prompt.media[part], model.gaze.grids(picture, prompt, number)
            thumbnail = model.gaze.thumbnail(picture.frames[0]) if source.kind == "video" else None
            shown.append(LookedAt(part, frame, source.times[frame], height, width, grids, thumbnail))
        return shown

    def glances(
        self, model: ServedModel, prompt: Prompt, answer: tuple[int, ...], pictures: list[LookedAt]
    ) -> tuple[int, list[Glance]]:
        """How many layers there are, and a glance for each token of `answer`.

        Raises `InvalidRequest`, `AttentionUndefined` and `QueueFull`.
        """
        rows = model.gaze(prompt, answer)
        if wrong := [layer for layer in self.layers or () if layer >= len(rows)]:
            raise InvalidRequest(f'"layers" names layer {wrong[0]}: {model.name} has {len(rows)}, from 0', param="layers")
        mean = (rows if self.layers is None else rows[list(self.layers)]).mean(0)
        places = [[at for start, stop in placed.spans for at in range(start, stop)] for placed in prompt.media]
        words, glances = model.tokenizer.detokenizer(), []
        for number, row in enumerate(mean.tolist()):
            text = words.push(answer[number : number + 1]) + (words.flush() if number + 1 == len(answer) else "")
            share = sum(row[at] for own in places for at in own)
            weights = [
                [[row[own[one]] for one in grid.numbers] for grid in picture.grids]
                for own, picture in zip(places, pictures, strict=True)
            ]
            glances.append(Glance(answer[number], text, share, weights))
        return len(rows), glances
