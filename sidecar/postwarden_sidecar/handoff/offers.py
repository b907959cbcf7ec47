"""What our dialogue offered in its reply to EHLO, and the MTA does not offer to this client.

Contract: pure functions over keywords (upper case). offered: ours. given: the MTA's, None where it was not asked by EHLO. What a client
does because of an offer of ours is ours to answer for, with 4xx.
"""

from __future__ import annotations

from collections.abc import Set

# RFC 5321, 4.2.3 and 4.1.1.11 (Postfix); measured: Exim 4.96 says 501, OpenSMTPD 7.6 says 503.
_BAD_PARAMETER = (500, 501, 502, 503, 504, 555)
# Which keyword of EHLO a parameter of MAIL or RCPT, or a command, belongs to: RFC 1870, 6152, 6531, 3461, 3207.
_PARAMETERS = {
    b"STARTTLS": "STARTTLS",
    b"SIZE": "SIZE",
    b"BODY": "8BITMIME",
    b"SMTPUTF8": "SMTPUTF8",
    b"RET": "DSN",
    b"ENVID": "DSN",
    b"NOTIFY": "DSN",
    b"ORCPT": "DSN",
}


def promises_chunks(offered: Set[str], given: Set[str] | None) -> bool:
    """The client may say BDAT, and the MTA would refuse it for good (Exim: chunking_advertise_hosts)."""
    return "CHUNKING" in offered and given is not None and "CHUNKING" not in given


def refuses_our_offer(code: int, line: bytes, offered: Set[str], given: Set[str] | None) -> bool:
    """The MTA's code refuses a parameter in line, a MAIL or RCPT, or line itself, a STARTTLS, that the client uses because we offered its
    keyword."""
    if code not in _BAD_PARAMETER or given is None:
        return False
    names = {word.partition(b"=")[0].upper() for word in line.split()}
    used = {keyword for name, keyword in _PARAMETERS.items() if name in names}
    return bool(used & offered - given)
