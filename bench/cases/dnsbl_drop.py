"""Clients that three DNS block lists have, all of which must have answered: 521 and the end.

The greeting test is off, so that a client waits for the lists alone.
"""

from bench.cases.case import Aim, Case
from bench.load_generator import Load
from bench.zones import ZONES

_SITES = "".join(f"    - {{zone: {zone}}}\n" for zone in ZONES)

CASE = Case(
    name="dnsbl-drop",
    title=f"DNSBL with {len(ZONES)} zones, drop",
    load=Load("drop", connections=15_000, concurrency=64),
    warm_up=Load("drop", connections=3_000, concurrency=64),
    replies=frozenset({"521"}),
    systems=("postwarden", "postscreen"),
    aims=(Aim("postscreen", 4.0),),
    spec=f"""
  access: {{myNetworks: []}}
  pregreet: {{banner: ""}}
  dnsbl:
    action: Drop
    threshold: {len(ZONES)}
    resolvers: ["{{resolver}}"]
    sites:
{_SITES}""",
    postscreen={
        "postscreen_dnsbl_sites": " ".join(ZONES),
        "postscreen_dnsbl_threshold": str(len(ZONES)),
        "postscreen_dnsbl_action": "drop",
    },
    name_server=True,
)
