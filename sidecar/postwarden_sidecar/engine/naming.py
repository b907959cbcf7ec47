"""What we call ourselves: the banner and the host name of a connection's context."""

from __future__ import annotations

from postwarden_sidecar.engine.context import Context

FALLBACK_HOSTNAME = (
    "localhost"  # nobody ever said: no policy, and no upstream learned; a client sees it next to a 421 only
)


def known_banner(context: Context) -> str:
    """The policy's banner, else the learned one (its first two words), else "": then there is no teaser."""
    rules = context.rules
    return (rules.pregreet.banner if rules is not None else None) or context.banner


def hostname(context: Context) -> str:
    """The policy's host name, else the first word of the learned banner, else of the policy's."""
    rules = context.rules
    if rules is not None and rules.hostname:
        return rules.hostname
    return (context.banner or known_banner(context) or FALLBACK_HOSTNAME).split(" ")[0]


def banner(context: Context) -> str:
    """What a greeting of our own says."""
    return known_banner(context) or f"{hostname(context)} ESMTP"
