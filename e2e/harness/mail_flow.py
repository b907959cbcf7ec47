"""Mail that flows all the time, for tests of what must not disturb it."""

import threading
from types import TracebackType
from typing import Self

from harness.mail_attempt import last_reply_to_mail
from harness.polling import poll
from harness.sidecar_process import SidecarProcess

PAUSE = 0.05
"""Seconds between two mails: more would only cost CPU."""

SENDER, RECIPIENT = "127.0.8.8", "flow@example.org"


class MailFlow:
    """One mail after the other from SENDER, in a thread, within the `with` block. `replies`: the last one to each."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        self._address = sidecar.address
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, name="mail-flow")
        self.replies: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def wait_for(self, more: int) -> None:
        """Until so many more mails have been tried."""
        wanted = len(self.replies) + more
        poll(lambda: len(self.replies) >= wanted, 20.0, lambda: f"mail does not flow: {self.replies[-3:]}")

    def refused(self) -> list[str]:
        """What came in place of `250`: a refusal of any kind, or the connection's own error."""
        return [reply for reply in self.replies if not reply.startswith("250 2.0.0")]

    def _send(self) -> None:
        while not self._over.wait(PAUSE):
            try:
                self.replies.append(last_reply_to_mail(self._address, SENDER, recipient=RECIPIENT))
            except OSError as error:
                self.replies.append(repr(error))
