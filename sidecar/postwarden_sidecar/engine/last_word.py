"""After a failed hand-off whose greeting was begun: the greeting is completed, and the failure answers the first command (measured)."""

from __future__ import annotations

from postwarden_sidecar.engine import replies

LONGEST_QUIT = 512  # bytes of a line that are looked at for the word QUIT (RFC 5321, 4.5.3.1.4)


class LastWord:
    """reply: to whatever the client says but QUIT."""

    __slots__ = ("_heard", "_limit", "_read", "reply")

    def __init__(self, reply: bytes, limit: int) -> None:
        """limit: bytes of a line, at most."""
        self.reply = reply
        self._limit = limit
        self._heard = b""
        self._read = 0

    def receive(self, data: bytes) -> bytes | None:
        """The answer, once the client has said a line; None: not yet."""
        self._read += len(data)
        self._heard += data[: LONGEST_QUIT - len(self._heard)]
        if b"\n" not in data and self._read <= self._limit:
            return None
        word, _, _ = self._heard.partition(b"\n")[0].removesuffix(b"\r").lstrip(b" ").partition(b" ")
        return replies.BYE if word.upper() == b"QUIT" else self.reply
