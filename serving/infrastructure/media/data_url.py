"""data: addresses: the bytes are in the request itself."""

from __future__ import annotations

import binascii

from serving.domain.errors import InvalidRequest, MediaTooLarge


def read_data_url(url: str, most: int) -> bytes:
    """What is in it. Raises `MediaTooLarge` before decoding more than `most` bytes, `InvalidRequest` for what is no base64."""
    head, comma, text = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise InvalidRequest("must be written as data:TYPE;base64,DATA")
    if len(text) * 3 // 4 - text[-2:].count("=") > most:
        raise MediaTooLarge(f"has more than {most} bytes")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise InvalidRequest("is not base64") from None
