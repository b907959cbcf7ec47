"""What `kubectl postwarden diff` finds, of rules and of a running sidecar."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from cli.pod_stand_in import namespace_of_pods, pod
from cli.test_kubectl_pods import POLICIES, told
from engine.scene import make_rules
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback_ports import free_port
from postwarden_cli.kubectl_diff import Comparison, compared, words
from postwarden_cli.rules_difference import Difference, differences
from postwarden_cli.sidecar_pods import SidecarPod
from postwarden_cli.system import System, SystemSettings
from postwarden_cli.wanted_rules import Wish, compiled
from postwarden_sidecar.rules.description import SHOWN_ROWS, describe
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import Handoff, Rules
from strategies import rules
from supervisor.scripted_mta import scripted_mta

POLICY: dict[str, Any] = {
    "apiVersion": "postwarden.dev/v1alpha1",
    "kind": "ScreeningPolicy",
    "metadata": {"name": "wall", "namespace": "mail"},
    "spec": {
        "selector": {},
        "access": {
            "rules": [
                {"action": "Reject", "cidrs": ["192.0.2.0/24"]},
                {"action": "Reject", "listFrom": {"configMapKeyRef": {"name": "spam", "key": "list"}}},
            ]
        },
        "pregreet": {"wait": "2s"},
    },
}
LIST = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "spam", "namespace": "mail", "labels": {"postwarden.dev/watch": "true"}},
    "data": {"list": "198.51.100.0/24\n2001:db8::/32\n"},
}
POD = SidecarPod("mail", "mta-0", "uid", {"app": "postfix"}, True, "")


def wish(policy: Mapping[str, Any], **config_maps: bytes) -> Wish:
    lists = {("mail", name): {"list": content} for name, content in config_maps.items()}
    return compiled([dict(policy)], lists, [POD])["mta-0"]


def test_a_changed_rule_and_a_changed_line_are_told_with_their_paths() -> None:
    edited = copy.deepcopy(POLICY)
    edited["spec"]["pregreet"]["action"] = "Drop"
    edited["spec"]["access"]["rules"][0]["cidrs"] = ["192.0.2.0/24", "203.0.113.0/25"]
    before = wish(POLICY, spam=b"198.51.100.0/24\n")
    after = wish(edited, spam=b"198.51.100.0/24\n198.51.200.0/24\n")
    assert list(differences(before.rules, after.rules)) == [
        Difference("access.rules[0].table", [], ["203.0.113.0/25 Reject"]),
        Difference("access.rules[1].table", [], ["198.51.200.0/24 Reject, line 2"]),
        Difference("pregreet.action", "Enforce", "Drop"),
    ]
    assert before.revision != after.revision


def test_a_policy_that_does_not_compile_now_is_told_with_its_errors() -> None:
    found = compared({"policy": {"namespace": "mail", "name": "wall"}, "rules": {}}, wish(POLICY))
    assert not found.same
    assert (
        "so that what is in force stays: spec.access.rules[1].listFrom.configMapKeyRef: ConfigMap"
        in found.notes[0]
    )


def test_the_key_of_a_secret_is_not_asked_for_and_makes_no_difference() -> None:
    keyed = copy.deepcopy(POLICY)
    keyed["metadata"]["generation"] = 7
    keyed["status"] = {"observedGeneration": 7, "revision": "as the operator says"}
    keyed["spec"]["access"] = {}
    secret = {"secretKeyRef": {"name": "spamhaus", "key": "dqs"}}
    keyed["spec"]["dnsbl"] = {
        "sites": [
            {"zone": "{key}.zen.dq.example.net", "keyFrom": secret},
            {"zone": "{key}.dbl.dq.example.net", "keyFrom": secret},
        ]
    }
    found = wish(keyed)
    assert found.errors == ()
    assert found.revision == "as the operator says"
    keyed["status"]["observedGeneration"] = 6
    assert wish(keyed).revision == ""


def test_a_worker_or_a_sidecar_that_lags_is_noted() -> None:
    answer = {
        "policy": None,
        "rules": None,
        "operator": "away",
        "complete": False,
        "workers": [{"index": 0, "inForce": True}, {"index": 1, "inForce": False}],
    }
    assert compared(answer, Wish()).notes == (
        "worker 1 has not applied the newest rules yet",
        "the sidecar has its rules from disk, without the keys of Secrets: lists that need one are not asked",
        "the sidecar has no connection to the operator",
    )


def test_pods_with_the_same_differences_are_shown_once() -> None:
    changed = Comparison("a/b", "a/b", (Difference("limits.screening", 1000, 50),))
    rows = Comparison("a/b", "a/b", (Difference("access.myNetworks", [], [str(n) for n in range(30)]),))
    assert words({"mta-0": changed, "mta-1": changed, "mta-2": Comparison("a/b", "a/b")}) == [
        "a/b in mta-0, mta-1: differs",
        "  limits.screening:",
        "  - 1000",
        "  + 50",
        "a/b in mta-2: no difference",
    ]
    assert words({"mta-0": rows})[-2:] == ["  + 19", "  + … and 10 more"]


@settings(max_examples=20)  # rules are dear to draw
@given(rules())
def test_any_rules_can_be_described_as_json_and_do_not_differ_from_themselves(made: Rules) -> None:
    shown = json.loads(json.dumps(describe(made)))
    assert list(differences(shown, describe(made))) == []


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda of: st.lists(of) | st.dictionaries(st.text(), of)
    )
)
def test_nothing_differs_from_itself_and_something_from_nothing(value: object) -> None:
    assert list(differences(value, value)) == []
    if value is not None:
        assert [each.wanted for each in differences(None, value)] == [value]


def test_a_large_table_is_told_by_its_size_and_a_hash() -> None:
    def table(count: int, action: int = 2) -> object:
        networks = [(f"10.{n >> 8}.{n & 255}.0/24", action, n + 1) for n in range(count)]
        return describe(replace(make_rules(), proxy_trusted=AddressTable.from_networks(networks)))[
            "proxyTrusted"
        ]

    assert isinstance(table(SHOWN_ROWS), list)
    large, other = table(SHOWN_ROWS + 1), table(SHOWN_ROWS + 1, 1)
    assert isinstance(large, dict)
    assert isinstance(other, dict)
    assert large["networks"] == other["networks"] == SHOWN_ROWS + 1
    assert large["hash"] != other["hash"]


async def test_a_running_sidecar_is_compared_with_an_edit(tmp_path: Path) -> None:
    policy, port = tmp_path / "policy.yaml", free_port()
    policy.write_text(yaml.safe_dump_all([POLICY, LIST]))
    async with scripted_mta() as mta, namespace_of_pods(tmp_path) as pods:
        how = SystemSettings(
            paths=[policy],
            listen=("127.0.0.1", 0),
            upstream=f"127.0.0.1:{mta.port}",
            handoff=Handoff.PLAIN,
            admin=("127.0.0.1", port),
            log_stream=io.BytesIO(),
        )
        system = System(how, report=lambda line: None)
        await system.start()
        try:
            pods.add(pod("mta-0"), port)
            pods.objects[POLICIES] = {
                "items": [POLICY | {"metadata": POLICY["metadata"] | {"uid": "u"}}],
                "metadata": {},
            }
            pods.objects["/api/v1/namespaces/mail/configmaps/spam"] = LIST
            code, out, err = await told(pods, "diff")
            assert (code, json.loads(out)["same"], err) == (0, True, ""), out
            pods.objects["/api/v1/namespaces/mail/configmaps/spam"] = LIST | {
                "data": {"list": "198.51.100.0/24\n"}
            }
            code, out, _ = await told(pods, "diff", "mta-0")
            assert code == 1
            assert json.loads(out)["differences"] == [
                {"path": "access.rules[1].table", "in_force": ["2001:db8::/32 Reject, line 2"], "wanted": []}
            ]
        finally:
            await system.stop()
