"""Transcripts as SubRip (.srt) and WebVTT (.vtt)."""

from __future__ import annotations

from collections.abc import Sequence

from serving.application.speech import Segment


def srt(segments: Sequence[Segment]) -> str:
    """Numbered, with a comma before the milliseconds."""
    return "\n".join(
        f"{at}\n{stamp(one.start, ',')} --> {stamp(one.end, ',')}\n{one_line(one.text)}\n" for at, one in enumerate(segments, 1)
    )


def vtt(segments: Sequence[Segment]) -> str:
    """With its head, and a full stop before the milliseconds."""
    cues = [f"{stamp(one.start, '.')} --> {stamp(one.end, '.')}\n{one_line(one.text)}\n" for one in segments]
    return "\n".join(["WEBVTT\n", *cues])


def stamp(seconds: float, point: str) -> str:
    """3723.5 -> "01:02:03.500"."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{milliseconds:03}"


def one_line(text: str) -> str:
    """An empty line or an arrow would end the cue."""
    return " ".join(text.split()).replace("-->", "->")
