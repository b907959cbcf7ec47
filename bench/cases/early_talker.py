"""Clients that talk before they are greeted: 521 and the end, as soon as they do."""

from bench.cases.case import Aim, Case
from bench.load_generator import Load

CASE = Case(
    name="early-talker",
    title="talks before the greeting, drop",
    load=Load("early", connections=40_000, concurrency=64),
    warm_up=Load("early", connections=5_000, concurrency=64),
    replies=frozenset({"220", "521"}),
    systems=("postwarden", "postscreen"),
    aims=(Aim("postscreen", 2.5),),
    spec="""
  access: {myNetworks: []}
  pregreet: {action: Drop, banner: mx.example.com ESMTP}
""",
    postscreen={"postscreen_greet_action": "drop", "postscreen_greet_banner": "mx.example.com ESMTP"},
)
