"""What a sidecar keeps on disk: the last known good rules, what it learned of the MTA, a trust bundle.

All of it is a cache: whatever can't be read is one warning and counts as none. Files are replaced whole (a
new file, fsync, rename), so that a crash leaves the old or the new one.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from postwarden_sidecar.rules import image
from postwarden_sidecar.rules.intervals import Buffer
from postwarden_sidecar.rules.settings import Rules
from postwarden_sidecar.supervisor.memory_file import Placed, memory_file, placed

PASSES = "passes.sqlite"  # the pass store's file in the directory
ADMIN_SOCKET = "admin.sock"  # where `postwarden-sidecar drain` asks
_PIECE = 1024 * 1024  # bytes of a file that are in memory besides the memory file

_log = logging.getLogger(__name__)


class Learned(msgspec.Struct, frozen=True):
    """What a proof learned of the MTA at target: see ipc.messages.UpstreamInForce."""

    target: str
    banner: str
    ehlo: tuple[str, ...]


class StateDirectory:
    """The directory. Its calls block for a disk write; what fails to be written is a warning."""

    def __init__(self, path: Path) -> None:
        """Make the directory, for its owner only, if there is none. Raises OSError, also if nothing can be written there."""
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        self._rules = path / "rules.image"
        self._learned = path / "learned.json"
        self._trust = path / "trust.pem"

    def load_rules(self) -> Placed | None:
        """The last known good rules, in a memory file."""
        try:
            with self._rules.open("rb") as file:
                descriptor = memory_file(iter(lambda: file.read(_PIECE), b""))
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("%s can't be read: %s", self._rules, error.strerror)
            return None
        try:
            return placed(descriptor)
        except image.ImageError as error:
            _log.warning("the last known good rules in %s are of no use: %s", self._rules, error)
            return None

    def save_rules(self, rules: Rules) -> None:
        """Keep them as the last known good. They must hold no Secret's key (see rules.keys)."""
        self._write(self._rules, image.pieces(rules))

    def forget_rules(self) -> None:
        """No policy matches any more."""
        try:
            self._rules.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s can't be removed: %s", self._rules, error.strerror)

    def load_learned(self) -> Learned | None:
        """What was learned of the MTA."""
        content = self._read(self._learned)
        if content is None:
            return None
        try:
            return msgspec.json.decode(content, type=Learned)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("what was learned of the MTA, %s, is of no use: %s", self._learned, error)
            return None

    def save_learned(self, learned: Learned) -> None:
        """Keep it."""
        self._write(self._learned, [msgspec.json.encode(learned)])

    def load_trust(self) -> bytes:
        """PEM of the trust bundle that came last, b"" if none."""
        return self._read(self._trust) or b""

    def save_trust(self, pem: bytes) -> None:
        """Keep it."""
        self._write(self._trust, [pem])

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("%s can't be read: %s", path, error.strerror)
            return None

    def _write(self, path: Path, pieces: Iterable[Buffer]) -> None:
        new = path.with_name(path.name + ".new")
        try:
            with new.open("wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            _log.warning("%s can't be written: %s", path, error.strerror)
