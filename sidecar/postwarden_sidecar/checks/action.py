"""The one place where an action takes effect: what becomes of a client that fails tests.

Ignore: nothing but the record. Enforce: the other tests go on, and then each recipient is refused, with the reply of the last test
that failed under Enforce. Drop: reply and close at once. Mode Observe turns each into Ignore and notes what would have been.
"""

from __future__ import annotations

from postwarden_sidecar.checks import access, deep, dnsbl, pregreet
from postwarden_sidecar.rules.settings import Action, Mode

_PROTOCOL_ERROR = b"550 5.5.1 Protocol error\r\n", b"521 5.5.1 Protocol error\r\n"
# Test -> (reply to each recipient under Enforce, reply before the close under Drop); postscreen's, but for the text of non-SMTP commands.
REPLIES = {
    access.TEST: (
        b"550 5.3.2 Service currently unavailable\r\n",
        b"521 5.3.2 Service currently unavailable\r\n",
    ),
    pregreet.TEST: _PROTOCOL_ERROR,
    deep.PIPELINING: _PROTOCOL_ERROR,
    deep.BARE_NEWLINE: _PROTOCOL_ERROR,
    deep.NON_SMTP_COMMAND: (_PROTOCOL_ERROR[0], b"521 5.7.0 Error: only SMTP is spoken here. Goodbye.\r\n"),
}
_WEIGHTS = {Action.IGNORE: 0, Action.ENFORCE: 1, Action.DROP: 2}
_WOULD = ("", "rejected", "dropped")  # by weight; verdicts, which this layer does not know


def replies(test: str, address: str = "", label: str = "") -> tuple[bytes, bytes]:
    """A test's reply to each recipient under Enforce, and the one before the close under Drop. address, label: with DNSBL, the
    client and the list's name that it may see."""
    if test != dnsbl.TEST:
        return REPLIES[test]
    text = f" 5.7.1 Service unavailable; client [{address}] blocked using {label}\r\n".encode(
        "ascii", "replace"
    )
    return b"550" + text, b"521" + text


def acted_upon(mode: Mode, action: Action) -> Action:
    """What becomes of the policy's word."""
    return Action.IGNORE if mode is Mode.OBSERVE else action


class Standing:
    """Where a client stands after the tests so far. It never changes: those who failed nothing share one.

    refusal: the reply to each recipient, b"" while no Enforce is pending. drop: the reply to close with, or b"". test, action, reason: of
    the failure that weighs most by the policy's word, the last of equals; test is "" while nothing failed; action is the one acted upon.
    would: under Observe, the verdict that Enforce would have given, else "".
    """

    __slots__ = ("_weight", "action", "drop", "reason", "refusal", "test", "would")

    def __init__(self) -> None:
        self.refusal = b""
        self.drop = b""
        self.test = ""
        self.action = Action.IGNORE
        self.reason = ""
        self.would = ""
        self._weight = 0

    def failed(
        self, mode: Mode, test: str, action: Action, reason: str, *, address: str = "", label: str = ""
    ) -> Standing:
        """Where it stands when it has failed a test, too, and the policy says action. address, label: as in `replies`."""
        after = Standing()
        after.refusal, after.drop, after._weight = self.refusal, self.drop, _WEIGHTS[action]
        acted = acted_upon(mode, action)
        if acted is Action.DROP:
            after.drop = replies(test, address, label)[1]
        elif acted is Action.ENFORCE:
            after.refusal = replies(test, address, label)[0]
        if after._weight < self._weight:
            after._weight = self._weight
            after.test, after.action, after.reason, after.would = (
                self.test,
                self.action,
                self.reason,
                self.would,
            )
        else:
            after.test, after.action, after.reason = test, acted, reason
            after.would = _WOULD[after._weight] if mode is Mode.OBSERVE else self.would
        return after


CLEAN = Standing()
"""Of who failed nothing."""
