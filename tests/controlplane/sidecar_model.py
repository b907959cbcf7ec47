"""A model of a sidecar at the other end of a stream, with messages under way in both directions."""

from collections import deque

from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_operator.controlplane.subscription import State, Subscription
from postwarden_operator.controlplane.wanted import Held, Managed, Undecided, Unmanaged, Wanted

UNCHANGED = "held"
"""What is in force stays."""


def wish(revision: str) -> Managed:
    """Rules by release 1 of the compiler, with one table."""
    snapshot = pb.Snapshot(
        policy_uid="uid", namespace="mail", name="wall", revision=revision, version=f"{revision}/1"
    )
    snapshot.blobs.add(hash=f"blob-{revision}", format="iv4/1", size=len(revision))
    return Managed(snapshot, {f"blob-{revision}": revision.encode()})


def is_good(revision: str) -> bool:
    """Whether the sidecar accepts it; nothing in force is good too."""
    return not revision.startswith("bad")


class Wire:
    """Messages keep their order in each direction, as on a stream; a reconnection loses those under way."""

    def __init__(self) -> None:
        self.sidecar_revision = ""
        self.sidecar_complete = True
        """False after a start from disk, until rules came: Secrets are missing."""
        self.wanted: Wanted | None = None
        self._nonce = 0
        self._connect()

    def _connect(self) -> None:
        self._down: deque[pb.ControlMessage] = deque()
        self._inbox: deque[pb.ControlMessage] = deque()
        self._up: deque[tuple[bool, str, str]] = deque()
        self._may_send = True
        version = f"{self.sidecar_revision}/1" if self.sidecar_revision else ""
        self.subscription = Subscription(
            revision=self.sidecar_revision, version=version, complete=self.sidecar_complete
        )
        if self.wanted is not None:
            self.subscription.want(self.wanted)

    def possible(self) -> list[tuple[str, str]]:
        """The steps that do something now; those of the wire twice, for else most messages were lost to wishes."""
        wire = [
            *([("send", "")] if self._may_send else []),
            *([("deliver", "")] if self._down else []),
            *([("apply", ""), ("apply-newest", "")] if self._inbox else []),
            *([("answer", "")] if self._up else []),
        ]
        wishes = [("want", "a"), ("want", "b"), ("want", "bad"), ("unmanaged", ""), ("hold", "")]
        wishes.append(("undecided", ""))
        return [*wire, *wire, *wishes, ("settle", ""), ("reconnect", ""), ("restart", "")]

    def do(self, step: str, revision: str) -> None:
        match step:
            case "want":
                self._want(wish(revision))
            case "unmanaged":
                self._want(Unmanaged())
            case "hold":
                self._want(Held("a typo"))
            case "undecided":
                self._want(Undecided("being compiled"))
            case "send":
                self.messages_due()
            case "deliver" if self._down:
                self._inbox.append(self._down.popleft())
            case "apply" if self._inbox:
                self._apply(self._inbox.popleft())
            case "apply-newest" if self._inbox:
                # What is newer cancels the work on what is older; a hold cancels nothing.
                work = [each for each in self._inbox if each.WhichOneof("message") != "hold"]
                self._inbox.clear()
                if work:
                    self._apply(work[-1])
            case "answer" if self._up:
                good, nonce, text = self._up.popleft()
                if good:
                    self.subscription.receive_ack(nonce, text)
                else:
                    self.subscription.receive_nack(nonce, "bad", text)
            case "settle":
                self.settle()
            case "reconnect":
                self._connect()
            case "restart":
                self.sidecar_complete = self.sidecar_revision == ""
                self._connect()

    def _want(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self._may_send = True
        self.subscription.want(wanted)

    def messages_due(self) -> int:
        self._nonce += 1
        self._may_send = False
        message = self.subscription.next_message(f"n{self._nonce}")
        if message is None:
            return 0
        self._down.append(message)
        return 1

    def _apply(self, message: pb.ControlMessage) -> None:
        match message.WhichOneof("message"):
            case "snapshot" if is_good(message.snapshot.revision):
                self.sidecar_revision, self.sidecar_complete = message.snapshot.revision, True
                self._up.append((True, message.snapshot.nonce, message.snapshot.version))
            case "snapshot":
                version = f"{self.sidecar_revision}/1" if self.sidecar_revision else ""
                self._up.append((False, message.snapshot.nonce, version))
            case "unmanaged":
                self.sidecar_revision, self.sidecar_complete = "", True
                self._up.append((True, message.unmanaged.nonce, ""))

    def settle(self) -> None:
        """Let everything under way arrive."""
        while self.messages_due() or self._down or self._inbox or self._up:
            for step in ("deliver", "apply", "answer"):
                self.do(step, "")

    def expected(self) -> str | None:
        """The revision wanted last, "" for unmanaged, UNCHANGED for hold, None for nothing."""
        match self.wanted:
            case None:
                return None
            case Unmanaged():
                return ""
            case Held() | Undecided():
                return UNCHANGED
            case Managed() as wanted:
                return wanted.revision

    def check_synced_is_true(self) -> None:
        if self.subscription.state.state is State.SYNCED:
            assert self.sidecar_revision == self.expected()
            assert self.sidecar_complete
