"""Clients of every kind for a storm, and the policy that they meet: those who are refused, those who pass, and for each stage of a
connection somebody who goes away in it.

Contract: with `POLICY` in force and an MTA behind the sidecar, each kind hears what it is to hear; `good` are the kinds whose every
connection is a mail server's.
"""

from harness.storm import Kind

DENIED, PERMITTED, UNKNOWN, TALKERS = "127.65.0.0/18", "127.66.0.0/18", "127.67.0.0/22", "127.68.0.0/18"

POLICY = f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: storm}}
spec:
  selector: {{}}
  access:
    myNetworks: []
    rejectAction: Drop
    rules:
    - {{action: Permit, cidrs: [{PERMITTED}]}}
    - {{action: Reject, cidrs: [{DENIED}]}}
  pregreet: {{action: Enforce, banner: "mail.example.org ESMTP", wait: 200ms}}
  limits: {{connectionsPerClient: 0, upstream: 10000}}
"""

_MAIL = (
    b"EHLO good.example\r\n",
    b"MAIL FROM:<a@good.example>\r\n",
    b"RCPT TO:<b@example.org>\r\n",
    b"DATA\r\n",
)
# Who talks before the greeting gets no end of it: the next line answers what was said.
_BYE = (b"220", b"221 ")

GOOD = (
    Kind(
        "mail of a known client",
        PERMITTED,
        answers=(*_MAIL, b"Subject: x\r\n\r\nhi\r\n.\r\n", b"QUIT\r\n"),
        end="hear",
        hears=_BYE,
    ),
    Kind("client that waits and passes", UNKNOWN, answers=(*_MAIL[:1], b"QUIT\r\n"), end="hear", hears=_BYE),
)

BAD = (
    Kind("denied", DENIED, end="hear", hears=(b"521 ", b"521 ")),
    Kind("denied, resets at once", DENIED, end="reset"),
    Kind("denied, ends at once", DENIED),
    Kind("resets at once", TALKERS, end="reset"),
    Kind("ends at once", TALKERS),
    Kind("resets in the greeting", TALKERS, answers=(b"",), teaser=True, end="reset"),
    Kind(
        "talks before the greeting",
        TALKERS,
        said=b"EHLO bad.example\r\n",
        answers=(b"MAIL FROM:<>\r\n", b"RCPT TO:<b@example.org>\r\n", b"QUIT\r\n"),
        end="hear",
        hears=_BYE,
    ),
    Kind(
        "talks before the greeting, resets in the dialogue",
        TALKERS,
        said=b"EHLO bad.example\r\n",
        answers=(b"MAIL FROM:<>\r\n", b"RCPT TO:<b@example.org>\r\n"),
        end="reset",
    ),
    Kind("talks much, reads nothing, resets", TALKERS, said=b"NOOP\r\n" * 4000, end="reset"),
    Kind("known client, resets at once", PERMITTED, end="reset"),
    Kind("known client, resets before it has said anything", PERMITTED, answers=(b"",), end="reset"),
    Kind("known client, resets amid a mail", PERMITTED, answers=(*_MAIL, b"Subject: cut"), end="reset"),
    Kind("known client, ends amid a mail", PERMITTED, answers=(*_MAIL, b"Subject: cut")),
)

ALL = BAD + GOOD
