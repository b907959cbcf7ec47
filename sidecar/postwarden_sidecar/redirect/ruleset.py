"""The rule that takes the MTA's clients to the sidecar, as text for nft(8). Pure.

Contract: `ruleset` is a whole transaction: it makes our tables anew, touches nobody else's, and leaves the same behind however often it is
written. The hook is prerouting alone. What the pod itself sends, the MTA's mail for others and the sidecar's sessions with the MTA, passes
no prerouting on its way out, and on loopback, which an address of the pod's own is too, the rule looks away. The port is rewritten and no
address (`dnat to :PORT`; `redirect` would write the interface's first address), so that clients keep theirs, and the sidecar sees the one
that they asked for. One rule maps all ports: that it works for one, shows that it works for all.

A table for each family rather than one of `inet`: NAT in `inet` needs Linux 5.2, and `inet` is not there without IPv6.
"""

from collections.abc import Collection, Mapping

TABLE = "postwarden-redirect"

PRIORITY = -110
"""Before `dstnat` (-100), where a service mesh writes "all ports": for port 25 the first rule wins. Connection tracking is at -200."""


def ruleset(ports: Mapping[int, int], *, ipv6: bool) -> str:
    """ports: TCP port that clients ask for -> port they come to. ipv6: else IPv4 alone, for a kernel without IPv6."""
    return "".join(_table(family, ports) for family in (("ip", "ip6") if ipv6 else ("ip",)))


def _table(family: str, ports: Mapping[int, int]) -> str:
    # The first line makes the second one good where there is no table yet.
    return f"""\
add table {family} {TABLE}
delete table {family} {TABLE}
table {family} {TABLE} {{
	chain clients {{
		type nat hook prerouting priority {PRIORITY}; policy accept;
		iifname != "lo" fib daddr type local meta l4proto tcp dnat to :tcp dport map {{ {_elements(ports)} }}
	}}
}}
"""


def _elements(ports: Mapping[int, int]) -> str:
    return ", ".join(f"{asked} : {reached}" for asked, reached in sorted(ports.items()))


def described(ports: Collection[int], to: int, *, ipv6: bool) -> str:
    """One sentence for the log."""
    plural = "s" if len(ports) > 1 else ""
    families = "IPv4 and IPv6" if ipv6 else "IPv4 alone: the pod has no IPv6"
    return (
        f"clients of TCP port{plural} {', '.join(map(str, sorted(ports)))} come to port {to} now ({families})"
    )
