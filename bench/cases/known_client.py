"""Clients that have passed before and are in the pass store: handed to Postfix's smtpd as a descriptor (`pass`), who greets them.

The MTA's own CPU is in a group of its own, the same MTA for both.
"""

from bench.cases.case import Aim, Case
from bench.load_generator import SOURCES, Load

CASE = Case(
    name="known-client",
    title="known client (pass store), handed to Postfix by pass",
    load=Load("greeted", connections=15_000, concurrency=64),
    warm_up=Load("greeted", connections=3_000, concurrency=64),
    replies=frozenset({"220", "221"}),
    systems=("postwarden", "postscreen"),
    aims=(Aim("postscreen", 1.2),),
    spec="""
  access: {myNetworks: []}
  pregreet: {action: Enforce, banner: mx.example.com ESMTP, wait: 100ms}
  protocol: {pipelining: {enabled: false}, nonSMTPCommand: {enabled: false}, bareNewline: {enabled: false}}
""",
    postscreen={
        "postscreen_greet_action": "enforce",
        "postscreen_greet_banner": "mx.example.com ESMTP",
        "postscreen_greet_wait": "1s",
    },
    visit=Load("greeted", connections=SOURCES, concurrency=200),
)
