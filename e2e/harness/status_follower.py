"""What a policy's status says over time."""

import threading
from types import TracebackType
from typing import Self

from harness.cluster import ApiServer
from harness.polling import poll
from harness.screening_objects import policy_object


class Statuses:
    """All that a policy's status says within the block: Programmed and the counts, each once as it changes."""

    def __init__(self, api_server: ApiServer, name: str, namespace: str) -> None:
        self._read = api_server, name, namespace
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self.seen: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def wait_for(self, says: tuple[str, str], timeout: float) -> None:
        """Raises TimeoutError with all that was seen."""
        poll(lambda: says in self.seen, timeout, lambda: f"{says} is not in {self.seen}")

    def _follow(self) -> None:
        while not self._over.wait(0.02):
            status = policy_object(*self._read).get("status", {})
            programmed = next(
                (
                    f"{each['status']}/{each['reason']}"
                    for each in status.get("conditions", ())
                    if each["type"] == "Programmed"
                ),
                "",
            )
            says = programmed, status.get("sidecars", {}).get("summary", "")
            if not self.seen or self.seen[-1] != says:
                self.seen.append(says)
