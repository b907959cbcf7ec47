"""The image of Rules: one run of bytes that the supervisor writes and all workers map.

It is also the last known good on disk.
"""

from __future__ import annotations

from postwarden_sidecar.rules.intervals import Buffer
from postwarden_sidecar.rules.settings import Rules


class ImageError(ValueError):
    """The bytes are no image of rules that this release reads; the message says why in one sentence."""


def encode(rules: Rules) -> bytes:
    """The image of rules."""
    raise ImageError("not written")


def decode(buffer: Buffer) -> Rules:
    """The rules of an image; their tables are views into buffer, which must live and stay as it is as long as they do. Raises ImageError."""
    raise ImageError("not written")
