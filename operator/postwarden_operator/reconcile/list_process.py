"""A process of its own in which large lists are compiled: a million lines cost a second, for which the loop that serves all sidecars
must not stop.

Contract: one process, started with the first list that needs it and kept, for it remembers what it has compiled. One that
dies is started again and the list tried once more; a list that kills it twice is ProcessLost. It ends with its parent, however that
ends. Spawned and not forked: gRPC's threads do not survive a fork.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from postwarden_operator.compiler import BlobContent, CompiledList, Lists, ListText

LONGEST = 120.0
"""Seconds for one list: ten times what the largest that a policy can name was measured to take."""

REMEMBERED_ROWS = 4_000_000
"""Rows of parsed sources that the process keeps, and of tables: some 60 MB each."""

_log = logging.getLogger(__name__)


class ProcessLost(Exception):
    """The process ended, or did not answer, twice while it compiled this list."""


class ListProcess:
    """`close` it at the end."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._one_at_a_time = asyncio.Lock()
        self.pid: int | None = None
        """Of the running process."""

    async def compile(self, text: ListText, known: dict[str, BlobContent]) -> CompiledList:
        """known: blobs by hash, which need not come back over the pipe. Raises BadList, ProcessLost."""
        # A list that waits for others has not begun to take its time.
        async with self._one_at_a_time:
            try:
                made = await self._attempt(text, frozenset(known))
            except ProcessLost as lost:
                _log.error("%s; it is started again", lost)
                made = await self._attempt(text, frozenset(known))
        return CompiledList(
            made.table,
            {
                digest: made.blobs.get(digest) or known[digest]
                for digest in (*made.table.ipv4, *made.table.ipv6)
            },
        )

    def close(self) -> None:
        """At once, whatever it does."""
        pool, self._pool = self._pool, None
        pid, self.pid = self.pid, None
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    async def _attempt(self, text: ListText, known: frozenset[str]) -> CompiledList:
        try:
            async with asyncio.timeout(LONGEST):
                pool = self._pool or self._make_pool()
                if self.pid is None:
                    self.pid = await asyncio.wrap_future(await asyncio.to_thread(pool.submit, os.getpid))
                    _log.info("lists are compiled by process %d", self.pid)
                # In a thread: what goes over the pipe is some megabytes.
                future = await asyncio.to_thread(pool.submit, _compile, text, known)
                return await asyncio.wrap_future(future)
        except BrokenProcessPool:
            self.pid = None  # it has ended
            self.close()
            raise ProcessLost(
                "the process that compiles lists ended; is there enough memory for it?"
            ) from None
        except TimeoutError:
            self.close()
            raise ProcessLost(f"a list is not compiled within {LONGEST:.0f} s") from None
        except (OSError, NotImplementedError) as error:  # no memory, no process, no semaphores
            self.close()
            raise ProcessLost(f"the process that compiles lists can't be started: {error}") from error

    def _make_pool(self) -> ProcessPoolExecutor:
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin)
        return self._pool


# --- in the process

_lists = Lists(REMEMBERED_ROWS)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, to all processes: the parent ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _compile(text: ListText, known: frozenset[str]) -> CompiledList:
    return _lists.compile(text, known)
