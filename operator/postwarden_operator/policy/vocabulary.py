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
