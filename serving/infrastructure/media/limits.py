"""What a picture, a clip or a sound may cost. Memory for decoding is at most `media_decodes` times what one may take."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from lifecycle.errors import LifecycleError


@dataclass(frozen=True)
class MediaLimits:
    """Limits of the pictures and clips in a request; more is refused. Raises LifecycleError for one that cannot work."""

    media_parts: int = 8
    """Most pictures and clips in one request."""
    media_part_bytes: int = 12 * 2**20
    """Most bytes of one of them as it was sent, after base64."""
    media_request_bytes: int = 16 * 2**20
    """Most bytes of all of them together."""
    media_pixels: int = 3 * 2**23
    """Most pixels of a picture, or of one frame of a clip, as its header says: known before anything is decoded."""
    media_kept_pixels: int = 2**20
    """A larger picture is reduced to so many pixels as soon as it is decoded; "detail": "low" keeps a quarter."""
    media_frames: int = 16
    """Most frames taken of a clip, evenly; all of them together have at most 4 x `media_kept_pixels`."""
    media_seconds: float = 120.0
    """Longest clip."""
    media_decode_seconds: float = 30.0
    """Longest time that decoding one picture or clip may take."""
    audio_bytes: int = 20 * 2**20
    """Most bytes of a sound as it was sent, after base64."""
    audio_seconds: float = 600.0
    """Longest sound."""
    media_decodes: int = 2
    """Pictures and clips that are decoded at the same time; others wait."""
    media_hosts: str = ""
    """Who may be asked for pictures, as "example.org,*.example.net,10.0.0.5:9000"; empty: only data: addresses are read. A
    name never leads to a private address; an address in figures is meant as it is, with its port."""
    media_fetch_seconds: float = 10.0
    """Longest time that fetching one may take, redirects included."""

    def __post_init__(self) -> None:
        for field in fields(MediaLimits):
            value = getattr(self, field.name)
            if not isinstance(value, str) and not 0 < value < math.inf:
                raise LifecycleError(f"{field.name} must be more than 0, not {value}; change it with --set KEY=VALUE")

    @property
    def body_bytes(self) -> int:
        """What base64 makes of the most bytes of a request."""
        return -(-max(self.media_request_bytes, self.audio_bytes) * 4 // 3)

    @property
    def hosts(self) -> tuple[str, ...]:
        """`media_hosts`, one by one."""
        return tuple(filter(None, (host.strip().lower() for host in self.media_hosts.split(","))))
