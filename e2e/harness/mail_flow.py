"""Mail that flows all the time, for tests of what must not disturb it."""

from harness.mail_attempt import last_reply_to_mail
from harness.polling import poll
from harness.repeated import Repeated
from harness.sidecar_process import SidecarProcess

PAUSE = 0.05
"""Seconds between two mails: more would only cost CPU."""

SENDER, RECIPIENT = "127.0.8.8", "flow@example.org"


class MailFlow(Repeated):
    """One mail after the other from SENDER, in a thread, within the `with` block. `replies`: the last one to each."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        super().__init__(PAUSE)
        self._address = sidecar.address
        self.replies: list[str] = []

    def wait_for(self, more: int) -> None:
        """Until so many more mails have been tried."""
        wanted = len(self.replies) + more
        poll(lambda: len(self.replies) >= wanted, 20.0, lambda: f"mail does not flow: {self.replies[-3:]}")

    def refused(self) -> list[str]:
        """What came in place of `250`: a refusal of any kind, or the connection's own error."""
        return [reply for reply in self.replies if not reply.startswith("250 2.0.0")]

    def _once(self) -> None:
        try:
            self.replies.append(last_reply_to_mail(self._address, SENDER, recipient=RECIPIENT))
        except OSError as error:
            self.replies.append(repr(error))
