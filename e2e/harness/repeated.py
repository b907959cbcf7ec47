"""Something that is done again and again in a thread while a test goes on.

Contract: within `with`, a subclass's `_once` is called again and again. What it raises ends that, and is raised at the end of the block.
"""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Repeated(ABC):
    """pause: seconds between two times."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)
        self._error: Exception | None = None

    @abstractmethod
    def _once(self) -> None: ...

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._over.wait(self._pause):
                self._once()
        except Exception as error:
            self._error = error
