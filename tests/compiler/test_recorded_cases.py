"""What Postfix 3.7.11's postscreen did with its access lists, recorded: our tables decide the same.

Two lists, as Postfix's cidr_table(5) and as rules of a policy, and the clients that connected. A client that was tested was neither
permitted nor rejected.
"""

from ipaddress import ip_address

import pytest
from policy.documents import KEY, Spec, access, document
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_operator.compiler import compile_policy
from postwarden_operator.policy import ConfigMapKey, parse_policy
from postwarden_sidecar.rules.intervals import AddressTable

NESTED_LIST = """\
# who may, and who may not
127.1.4.8/30   permit
   # a comment between, then a continuation line
127.1.4.16/28
    reject
!127.1.0.0/16  reject
if 127.1.4.128/25
127.1.4.130    permit
127.1.4.128/26 reject
endif
if !127.1.4.0/24
0.0.0.0/0      reject
endif
127.1.4.64/27  DUNNO
127.1.4.64/26  PERMIT
"""

FLAT_LIST = """\
127.1.1.1 permit
127.1.1.0/28 reject
127.1.1.20 dunno
127.1.1.16/28 permit
127.1.1.32/29 reject
127.1.1.64/26 reject
"""

POSTFIX = access({"listFrom": {"configMapKeyRef": KEY, "format": "PostfixCIDR"}}, myNetworks=[])

FLAT_RULES = access(
    {"action": "Permit", "cidrs": ["127.1.1.1"]},
    {"action": "Reject", "cidrs": ["127.1.1.0/28"]},
    {"action": "Dunno", "cidrs": ["127.1.1.20"]},
    {"action": "Permit", "cidrs": ["127.1.1.16/28"]},
    {"action": "Reject", "cidrs": ["127.1.1.32/29", "127.1.1.64/26"]},
    myNetworks=[],
)

NESTED_CASES = {
    "127.1.4.11": "permitted",  # permit inside a table
    "127.1.4.12": "tested",  # the line after the permitted network is not matched
    "127.1.4.17": "rejected",  # an action on a continuation line
    "127.1.4.130": "permitted",  # permit inside if
    "127.1.4.140": "rejected",  # reject inside if
    "127.1.4.200": "tested",  # inside if, but no line of it matches, nor any after
    "127.9.4.1": "rejected",  # a negated pattern
    "127.1.4.70": "tested",  # an action in capital letters: dunno
    "127.1.4.100": "permitted",  # an action in capital letters: permit
}

FLAT_CASES = {
    "127.1.1.1": "permitted",  # a permit before a wider reject
    "127.1.1.2": "rejected",
    "127.1.1.39": "rejected",  # the last address of a rejected network
    "127.1.1.40": "tested",  # the first address after a rejected network
    "127.1.1.21": "permitted",
    "127.1.1.65": "rejected",
    "127.1.1.66": "rejected",
    "127.1.1.67": "rejected",
}

DUNNO_CASE = {"127.1.1.20": "tested"}  # dunno ends the search before a later permit


def verdict(spec: Spec, text: str, client: str) -> str:
    """As the rules say: in order, the first that knows the address."""
    result = compile_policy(
        parse_policy(document(spec), strict=True), {ConfigMapKey("lists", "bad.txt"): text.encode()}
    )
    for rule in result.rules.access.rules:
        table = AddressTable([result.blobs[name].data for name in rule.table.ipv4], [])
        if (found := table.lookup(ip_address(client).packed)) is not None:
            return {
                int(pb.ACCESS_ACTION_PERMIT): "permitted",
                int(pb.ACCESS_ACTION_REJECT): "rejected",
                int(pb.ACCESS_ACTION_DUNNO): "tested",
            }[found[0]]
    return "tested"


@pytest.mark.parametrize(("client", "recorded"), NESTED_CASES.items())
def test_nested_postfix_table_decides_as_recorded(client: str, recorded: str) -> None:
    assert verdict(POSTFIX, NESTED_LIST, client) == recorded


@pytest.mark.parametrize(("client", "recorded"), {**FLAT_CASES, **DUNNO_CASE}.items())
def test_flat_postfix_table_decides_as_recorded(client: str, recorded: str) -> None:
    assert verdict(POSTFIX, FLAT_LIST, client) == recorded


@pytest.mark.parametrize(("client", "recorded"), {**FLAT_CASES, **DUNNO_CASE}.items())
def test_the_same_as_rules_of_a_policy_decides_as_recorded(client: str, recorded: str) -> None:
    assert verdict(FLAT_RULES, "", client) == recorded
