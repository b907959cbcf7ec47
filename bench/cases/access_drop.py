"""Clients that the access list rejects: 521 and the end, at once."""

from bench.cases.case import Aim, Case
from bench.load_generator import FIRST_SOURCE, Load

CASE = Case(
    name="access-drop",
    title="denied by access list, drop (521)",
    load=Load("drop", connections=60_000, concurrency=64),
    warm_up=Load("drop", connections=5_000, concurrency=64),
    replies=frozenset({"521"}),
    systems=("accept-loop", "haproxy", "haproxy-1-thread", "postwarden", "postscreen"),
    aims=(Aim("postscreen", 3.0, 3.5), Aim("haproxy", 0.75, 0.9), Aim("accept-loop", 0.5, 0.6)),
    spec="""
  access:
    myNetworks: []
    rejectAction: Drop
    rules: [{action: Reject, listFrom: {configMapKeyRef: {name: zombies, key: networks}}}]
""",
    # One line: postscreen reads its table from the first to the last.
    postscreen={
        "postscreen_access_list": "cidr:{{%s/10 reject}}" % FIRST_SOURCE,  # noqa: UP031  (braces are Postfix's)
        "postscreen_denylist_action": "drop",
    },
    listed=True,
    modes={"haproxy": "closed", "haproxy-1-thread": "closed"},
)
