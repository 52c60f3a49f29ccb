"""From a conversation to the prompt that the model reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.application.ports import ServedModel
from serving.domain.media import Media
from serving.domain.request import Prompt

PICTURE = {"type": "image"}


@dataclass(frozen=True, slots=True)
class RenderChat:
    """Messages (and tools) in, a prompt out.

    `messages` are plain dicts as chat templates take them: `content` is text, the `arguments` of a tool call are an
    object. `tools` is empty when the model may not call any. `variables` go to the template as they are. The `content` of
    a message that shows something is a list of parts {"type": "text", "text": ...}, {"type": "image"} and
    {"type": "video"}; `media` are what these show, in their order over all messages.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    media: tuple[Media, ...] = ()

    def text(self, model: ServedModel) -> str:
        """The very text. Raises `InvalidRequest(param="messages")` when the template refuses."""
        return model.tokenizer.render_text(
            self._messages(model),
            self.tools or None,
            add_generation_prompt=self.add_generation_prompt,
            continue_final_message=self.continue_final_message,
            variables=self.variables,
        )

    def tokens(self, model: ServedModel) -> tuple[int, ...]:
        """That text as the model reads it."""
        return self.prompt(model).tokens

    def prompt(self, model: ServedModel) -> Prompt:
        """The same with its pictures. Raises `InvalidRequest(param="messages")` for what the model cannot be shown."""
        return self.read(model, self.text(model))

    def read(self, model: ServedModel, text: str) -> Prompt:
        """The prompt that the rendered text is."""
        if not self.media:
            return Prompt(tuple(model.tokenizer.encode_rendered(text)))
        media = pictures_of(self.media) if model.tokenizer.clips_as_pictures else self.media
        return model.tokenizer.place(text, media)

    def _messages(self, model: ServedModel) -> list[dict[str, Any]]:
        if all(one.kind == "image" for one in self.media) or not model.tokenizer.clips_as_pictures:
            return self.messages
        media = iter(self.media)
        return [_frame_by_frame(message, media) for message in self.messages]


def pictures_of(media: Sequence[Media]) -> tuple[Media, ...]:
    """Every frame of every clip as a picture of its own."""
    return tuple(
        Media("image", f"{one.digest}:{at}", (frame,)) if one.kind == "video" else one
        for one in media
        for at, frame in enumerate(one.frames)
    )


def _frame_by_frame(message: dict[str, Any], media: Iterator[Media]) -> dict[str, Any]:
    """A message whose clips are pictures; `media` are those of this message and the next ones."""
    if not isinstance(content := message.get("content"), list):
        return message
    parts: list[dict[str, Any]] = []
    for part in content:
        parts += [PICTURE] * len(next(media).frames) if part["type"] in ("image", "video") else [part]
    return {**message, "content": parts}
