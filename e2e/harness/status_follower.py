"""What a policy's status says over time."""

from harness.cluster import ApiServer
from harness.polling import poll
from harness.repeated import Repeated
from harness.screening_objects import policy_object


class Statuses(Repeated):
    """All that a policy's status says within the block: Programmed and the counts, each once as it changes."""

    def __init__(self, api_server: ApiServer, name: str, namespace: str) -> None:
        super().__init__(0.02)
        self._read = api_server, name, namespace
        self.seen: list[tuple[str, str]] = []

    def wait_for(self, says: tuple[str, str], timeout: float) -> None:
        """Raises TimeoutError with all that was seen."""
        poll(lambda: says in self.seen, timeout, lambda: f"{says} is not in {self.seen}")

    def _once(self) -> None:
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
