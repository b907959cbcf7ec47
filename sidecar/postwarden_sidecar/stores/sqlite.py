"""A pass store in an SQLite file, which outlives restarts of the sidecar.

The file is a cache: one that can't be read is moved aside with a warning and begun anew. Write-ahead log
without waiting for the disk (synchronous=NORMAL): a crash of the machine may lose the last passes, never the
file. One thread of its own runs all statements, in order; sqlite3 blocks, and the event loop must not.
aiosqlite would be the same thread with a dependency.

What the file holds is in memory, too, up to a number of keys: nearly all who ask are zombies that it does not know, and to be told so by
the file costs two changes of threads. So the file is one process's; another one's passes are seen at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from postwarden_sidecar.stores.store import StoreError

MAX_IN_MEMORY = 50_000  # keys, about 20 MB; of a file with more the others are read when they are asked for
SCHEMA_VERSION = 1  # in the file's user_version; a file of another version is begun anew
APPLICATION_ID = 0x50575053  # "PWPS", in the file's header: tells our file from a foreign one
_SCHEMA = """
CREATE TABLE passes (key TEXT NOT NULL, test TEXT NOT NULL, expiry REAL NOT NULL, PRIMARY KEY (key, test))
WITHOUT ROWID; CREATE INDEX passes_by_expiry ON passes (expiry);
"""
_GET = "SELECT test, expiry FROM passes WHERE key = ?"
_PUT = """
INSERT INTO passes (key, test, expiry) VALUES (?, ?, ?)
ON CONFLICT (key, test) DO UPDATE SET expiry = excluded.expiry
"""
_ALL = "SELECT key, test, expiry FROM passes ORDER BY key"
_OLD_KEYS = "SELECT key FROM passes GROUP BY key HAVING max(expiry) <= ?"
# What SQLite says of a file that is none, is damaged, or lacks our columns.
_UNREADABLE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class SqliteStore:
    """PassStore in a file. Make it by `open`."""

    def __init__(
        self,
        path: Path,
        thread: ThreadPoolExecutor,
        connection: sqlite3.Connection,
        memory: dict[str, dict[str, float]],
        in_memory: int,
    ) -> None:
        self._path = path
        self._thread = thread
        self._connection = connection
        self._memory = memory
        self._in_memory = in_memory
        self._whole = len(memory) < in_memory  # the file has no key that is not in memory

    @classmethod
    async def open(cls, path: Path, lock_timeout: float = 5.0, in_memory: int = MAX_IN_MEMORY) -> SqliteStore:
        """Open or make the file. A file that is damaged, foreign or of another version is moved to
        `NAME.unreadable` with a warning. lock_timeout: seconds to wait for another process. in_memory: keys that are
        kept there. Raises StoreError if no file can be made there."""
        thread = ThreadPoolExecutor(1, "pass-store")
        try:
            loop = asyncio.get_running_loop()
            connection = await loop.run_in_executor(thread, _open, path, lock_timeout)
            memory = await loop.run_in_executor(thread, _first_keys, connection, in_memory)
        except (sqlite3.Error, OSError) as error:
            thread.shutdown(wait=False)
            raise StoreError(f"the pass store {path} can't be made: {error}") from error
        return cls(path, thread, connection, memory, in_memory)

    async def get(self, key: str) -> dict[str, float]:
        """See PassStore."""
        return (await self.get_many((key,))).get(key, {})

    async def get_many(self, keys: Sequence[str]) -> dict[str, dict[str, float]]:
        """See PassStore."""
        known = {key: dict(found) for key in keys if (found := self._memory.get(key))}
        if self._whole or len(known) == len(keys):
            return known

        def select(connection: sqlite3.Connection) -> dict[str, dict[str, float]]:
            found = ((key, connection.execute(_GET, (key,)).fetchall()) for key in keys if key not in known)
            return {key: dict(rows) for key, rows in found if rows}

        return known | await self._run("read", select)

    def keys(self) -> Collection[str] | None:
        """See PassStore."""
        return self._memory.keys() if self._whole else None

    async def put(self, key: str, expiries: Mapping[str, float], now: float) -> None:
        """See PassStore."""
        rows = [(key, test, expiry) for test, expiry in expiries.items()]
        if key in self._memory:
            self._memory[key] |= expiries
        elif self._whole:
            self._memory[key] = dict(expiries)
            self._whole = len(self._memory) < self._in_memory

        def insert(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany(_PUT, rows)

        await self._run("written", insert)

    async def sweep(self, now: float, retention: float) -> int:
        """See PassStore."""
        limit = now - retention

        def delete(connection: sqlite3.Connection) -> int:
            with connection:
                keys = connection.execute(_OLD_KEYS, (limit,)).fetchall()
                connection.executemany("DELETE FROM passes WHERE key = ?", keys)
            return len(keys)

        for key in [key for key, known in self._memory.items() if max(known.values(), default=0.0) <= limit]:
            del self._memory[key]
        return await self._run("swept", delete)

    async def close(self) -> None:
        """See PassStore."""
        with contextlib.suppress(StoreError):
            await self._run("closed", sqlite3.Connection.close)
        self._thread.shutdown(wait=False)

    async def _run(self, verb: str, statement: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, statement, self._connection)
        except (sqlite3.Error, OSError, UnicodeEncodeError) as error:
            raise StoreError(f"the pass store {self._path} can't be {verb}: {error}") from error


def _open(path: Path, lock_timeout: float) -> sqlite3.Connection:
    try:
        return _connect(path, lock_timeout)
    except (sqlite3.DatabaseError, _Foreign) as error:
        # Locked, full, not permitted: the place is at fault and not the file.
        if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorcode not in _UNREADABLE:
            raise
        aside = path.with_name(path.name + ".unreadable")
        _log.warning("the pass store %s is begun anew, the file is now %s: %s", path, aside, error)
        path.replace(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _connect(path, lock_timeout)


def _first_keys(connection: sqlite3.Connection, most: int) -> dict[str, dict[str, float]]:
    """Passes of so many keys, or of fewer if the file has fewer."""
    found: dict[str, dict[str, float]] = {}
    for key, test, expiry in connection.execute(_ALL):
        if key not in found and len(found) == most:
            break
        found.setdefault(key, {})[test] = expiry
    return found


class _Foreign(Exception):
    """The file is an SQLite database, but none of ours, or a damaged one."""


def _connect(path: Path, lock_timeout: float) -> sqlite3.Connection:
    # Opened, used and closed by one thread.
    connection = sqlite3.connect(path, timeout=lock_timeout, check_same_thread=False)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
            raise _Foreign(f"application id {application:#x}, version {version}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if tables:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise _Foreign(verdict)
            connection.execute("SELECT key, test, expiry FROM passes LIMIT 1").fetchone()
        else:
            connection.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION};"
                f"PRAGMA application_id = {APPLICATION_ID}; COMMIT;"
            )
    except BaseException:
        connection.close()
        raise
    return connection
