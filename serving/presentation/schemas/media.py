"""Pictures and clips as parts of a message's content."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from serving.application.media import MediaSource
from serving.presentation.schemas.base import Wire

Address = Annotated[str, Field(min_length=1)]
"""data:TYPE;base64,DATA; or http(s), where the server fetches from that host."""
Detail = Literal["auto", "low", "high"]


class ImageUrl(Wire):
    url: Address
    detail: Detail = "auto"
    """"low" looks at few pixels; the others at as many as the server takes."""


class VideoUrl(Wire):
    url: Address


class VideoData(Wire):
    data: Address
    """base64."""
    format: Literal["mp4", "webm", "gif", "webp"]


class ImagePart(Wire):
    """A picture; of an animation, its first frame."""

    type: Literal["image_url"]
    image_url: ImageUrl

    def template(self) -> dict[str, str]:
        return {"type": "image"}

    def source(self, place: str) -> MediaSource:
        return MediaSource("image", self.image_url.url, f"{place}.image_url.url", self.image_url.detail == "low")


class VideoPart(Wire):
    """A clip, of which the model sees frames."""

    type: Literal["video_url"]
    video_url: VideoUrl

    def template(self) -> dict[str, str]:
        return {"type": "video"}

    def source(self, place: str) -> MediaSource:
        return MediaSource("video", self.video_url.url, f"{place}.video_url.url")


class InputVideoPart(Wire):
    """A clip in the request itself, written as OpenAI writes sounds."""

    type: Literal["input_video"]
    input_video: VideoData

    def template(self) -> dict[str, str]:
        return {"type": "video"}

    def source(self, place: str) -> MediaSource:
        url = f"data:video/{self.input_video.format};base64,{self.input_video.data}"
        return MediaSource("video", url, f"{place}.input_video.data")


class ImageItem(Wire):
    """A picture in /v1/responses."""

    type: Literal["input_image"]
    image_url: Address
    detail: Detail = "auto"
    """"low" looks at few pixels; the others at as many as the server takes."""

    def template(self) -> dict[str, str]:
        return {"type": "image"}

    def source(self, place: str) -> MediaSource:
        return MediaSource("image", self.image_url, f"{place}.image_url", self.detail == "low")


class VideoItem(Wire):
    """A clip in /v1/responses. An extension."""

    type: Literal["input_video"]
    video_url: Address

    def template(self) -> dict[str, str]:
        return {"type": "video"}

    def source(self, place: str) -> MediaSource:
        return MediaSource("video", self.video_url, f"{place}.video_url")


def is_shown(content: Any) -> bool:
    """Whether content has more than text."""
    return isinstance(content, list) and any(hasattr(part, "source") for part in content)


def sources_of(content: Any, place: str) -> list[MediaSource]:
    """The pictures and clips of content that is at `place` in the request, in their order."""
    if not isinstance(content, list):
        return []
    return [part.source(f"{place}[{at}]") for at, part in enumerate(content) if hasattr(part, "source")]
