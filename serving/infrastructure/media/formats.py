"""What kind of file some bytes are, from their beginning: what they are called does not matter."""

from __future__ import annotations

from serving.domain.errors import UnsupportedMedia

STILLS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Read as pictures, of an animation the first frame. Names are Pillow's."""
ANIMATIONS = ("GIF", "WEBP")
"""Read as clips by whoever reads pictures."""
SOUND_RATE = 16000
"""Samples a second of every sound, once it is decoded."""
CLIPS = {"MP4": "mp4", "WebM": "matroska"}
"""Name to FFmpeg's demuxer."""


def format_of(data: bytes) -> str:
    """One of the above. Raises `UnsupportedMedia` for anything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith(b"BM"):
        return "BMP"
    if data[4:8] == b"ftyp":
        return "MP4"
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return "WebM"
    raise UnsupportedMedia("is none of the formats read here: PNG, JPEG, WebP, GIF, BMP, MP4, WebM")
