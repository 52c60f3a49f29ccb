"""A picture or a clip as a part of a message."""

from __future__ import annotations

import base64
import mimetypes
from pathlib import Path
from typing import Any

from lifecycle.errors import LifecycleError

PARTS = {"image": "image_url", "video": "video_url"}


def part_of(file: Path) -> dict[str, Any]:
    """The file in the form of the API; what it is follows from its name. Raises LifecycleError."""
    kind, _ = mimetypes.guess_type(file.name)
    name = PARTS.get((kind or "").partition("/")[0])
    if name is None:
        raise LifecycleError(f"{file} is named like no picture or clip: attach a .png, .jpg, .webp, .gif, .bmp, .mp4 or .webm file")
    try:
        data = base64.b64encode(file.read_bytes()).decode()
    except OSError as error:
        raise LifecycleError(f"cannot read {file}: {error.strerror}") from None
    return {"type": name, name: {"url": f"data:{kind};base64,{data}"}}
