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


class Standing:
    """Where a client stands after the tests so far.

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

    def fail(
        self, mode: Mode, test: str, action: Action, reason: str, *, address: str = "", label: str = ""
    ) -> Action:
        """A test failed, and the policy says action. address, label: as in `replies`. Returns the action as acted upon."""
        weight = _WEIGHTS[action]
        acted = Action.IGNORE if mode is Mode.OBSERVE else action
        if acted is Action.DROP:
            self.drop = replies(test, address, label)[1]
        elif acted is Action.ENFORCE:
            self.refusal = replies(test, address, label)[0]
        if weight >= self._weight:
            self._weight = weight
            self.test, self.action, self.reason = test, acted, reason
            if mode is Mode.OBSERVE:
                self.would = _WOULD[weight]
        return acted
