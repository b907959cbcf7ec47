"""The words of a policy: what its fields may say. CamelCase, as Kubernetes has them."""

from enum import StrEnum

DOCUMENTED_DEFAULT = "x-documented-default"
"""Of a field whose default no schema can fill in: what people are told of it. Never in a schema that leaves this package."""


class Mode(StrEnum):
    """Whether decisions take effect."""

    ENFORCE = "Enforce"
    OBSERVE = "Observe"


class Action(StrEnum):
    """What a failed test does."""

    IGNORE = "Ignore"
    ENFORCE = "Enforce"
    DROP = "Drop"


class AccessAction(StrEnum):
    """What an entry of the access list says."""

    PERMIT = "Permit"
    REJECT = "Reject"
    DUNNO = "Dunno"


class ListFormat(StrEnum):
    """How a list in a ConfigMap is written."""

    PLAIN = "Plain"
    POSTFIX_CIDR = "PostfixCIDR"


class Handoff(StrEnum):
    """How a client is given to the mail server."""

    PLAIN = "Plain"
    PROXY_V1 = "ProxyV1"
    PROXY_V2 = "ProxyV2"
    PASS = "Pass"  # noqa: S105  (no password)


class Handover(StrEnum):
    """What becomes of a client that passes the tests after the greeting."""

    INLINE = "Inline"
    RECONNECT = "Reconnect"


class LogFormat(StrEnum):
    """How decisions are logged."""

    JSON = "JSON"
    POSTSCREEN = "Postscreen"
    POSTSCREEN_LEGACY = "PostscreenLegacy"


class EnvelopeAddresses(StrEnum):
    """What is shown of HELO names, senders and recipients."""

    FULL = "Full"
    HASHED = "Hashed"
    OMITTED = "Omitted"


class Verdict(StrEnum):
    """What became of a connection; lower case, for these words are values of metrics and traces."""

    ALLOWLISTED = "allowlisted"
    PASS_OLD = "pass_old"  # noqa: S105  (no password)
    PASS_NEW = "pass_new"  # noqa: S105
    TOLERATED = "tolerated"
    EXEMPTED = "exempted"
    UNSCREENED = "unscreened"
    REJECTED = "rejected"
    DROPPED = "dropped"
    HANGUP = "hangup"
    DEFERRED = "deferred"
    OVERLOADED = "overloaded"
    ERROR = "error"
