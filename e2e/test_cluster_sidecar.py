"""`kubectl apply` to a verdict: a real API server, the operator, a sidecar with its worker, an MTA, and SMTP clients.

Clients come from loopback addresses of their own, which the policies here do not permit by themselves. Times count from kubectl's end,
when the API server has the change.
"""

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from harness.cluster import ApiServer
from harness.mail_attempt import ENFORCED_WITHIN, first_reply, last_reply_to_mail
from harness.mail_sink import GREETING, MailSink
from harness.polling import poll
from harness.screening_objects import conditions, config_map, policy, policy_object, wait_for_reasons
from harness.sidecar_fixtures import StartSidecar
from harness.smtp import Client

ZOMBIE, OTHER_ZOMBIE, FRIEND = "127.66.6.6", "127.77.7.7", "127.0.9.9"


def screening(*rejected: str, action: str = "Drop", **more: Any) -> dict[str, Any]:
    """A policy's spec that turns these networks away; nobody waits for the greeting."""
    rules = [{"action": "Reject", "cidrs": list(rejected)}] if rejected else []
    return {
        "access": {"myNetworks": [], "rejectAction": action, "rules": rules},
        "pregreet": {"banner": ""},
        **more,
    }


def screening_by_list(name: str) -> dict[str, Any]:
    rule = {"action": "Reject", "listFrom": {"configMapKeyRef": {"name": name, "key": "networks"}}}
    return {
        "access": {"myNetworks": [], "rejectAction": "Drop", "rules": [rule]},
        "pregreet": {"banner": ""},
    }


def enforced(heard: Callable[[], str], begins: str, within: float = ENFORCED_WITHIN) -> None:
    """Wait for a reply that begins so. Raises TimeoutError."""
    last = ""

    def as_wanted() -> bool:
        nonlocal last
        last = heard()
        return last.startswith(begins)

    poll(as_wanted, within, lambda: f"clients hear {last!r} and not {begins}")


def test_a_policy_its_edits_a_changed_list_and_its_end_are_enforced_soon(
    api_server: ApiServer, namespace: str, start_sidecar: StartSidecar, mail_sink: MailSink
) -> None:
    sidecar = start_sidecar()
    with Client(*sidecar.listen, source=ZOMBIE) as before:
        assert str(before.reply()) == f"220 {GREETING}"  # no policy: handed over unscreened
        before.expect("EHLO zombie.test", 250)

        api_server.apply(policy("wall", namespace, **screening("127.66.0.0/16")))
        enforced(lambda: first_reply(sidecar.address, ZOMBIE), "521 5.3.2")
        assert last_reply_to_mail(sidecar.address, FRIEND).startswith("250 2.0.0")

        api_server.apply(policy("wall", namespace, **screening("127.66.0.0/16", action="Enforce")))
        enforced(lambda: last_reply_to_mail(sidecar.address, ZOMBIE), "550 5.3.2")

        other = {"access": {"rules": [{"action": "Reject", "cidrs": ["127.77.0.0/16"]}]}}
        patch = f"--patch={json.dumps({'spec': other})}"
        api_server.kubectl("patch", "spol", "wall", f"--namespace={namespace}", "--type=merge", patch)
        enforced(lambda: last_reply_to_mail(sidecar.address, OTHER_ZOMBIE), "550 5.3.2")
        assert last_reply_to_mail(sidecar.address, ZOMBIE).startswith("250 2.0.0")

        api_server.apply(config_map("zombies", namespace, "127.66.0.0/16\n"))
        api_server.apply(policy("wall", namespace, **screening_by_list("zombies")))
        enforced(lambda: first_reply(sidecar.address, ZOMBIE), "521 5.3.2")
        assert first_reply(sidecar.address, OTHER_ZOMBIE).startswith("220")

        api_server.apply(config_map("zombies", namespace, "127.66.0.0/16\n127.77.7.7 # found today\n"))
        enforced(lambda: first_reply(sidecar.address, OTHER_ZOMBIE), "521 5.3.2")
        assert first_reply(sidecar.address, ZOMBIE).startswith("521 5.3.2")

        api_server.kubectl("delete", "spol", "wall", f"--namespace={namespace}")
        enforced(lambda: first_reply(sidecar.address, ZOMBIE), "220")

        # Six new rules later the session from before the first is as it was.
        before.deliver("late@example.org")
        before.expect("QUIT", 221)
    verdicts = {record["postwarden.verdict"] for record in sidecar.records()}
    assert (
        {"unscreened", "dropped", "rejected", "pass_new", "pass_old"}
        >= verdicts
        >= {"unscreened", "dropped", "rejected"}
    )
    assert mail_sink.recipients[-1] == "late@example.org"


def test_clients_announced_by_a_trusted_load_balancer_are_judged_by_their_own_address(
    api_server: ApiServer, namespace: str, start_sidecar: StartSidecar
) -> None:
    sidecar = start_sidecar()
    trusted = {"proxyProtocol": {"trusted": ["127.0.9.0/24"]}}
    api_server.apply(policy("wall", namespace, **screening("192.168.0.0/16", listener=trusted)))
    enforced(lambda: first_reply(sidecar.address, FRIEND, announced="192.168.7.7"), "521 5.3.2")
    assert first_reply(sidecar.address, FRIEND, announced="198.51.100.7").startswith("220")
    record = sidecar.wait_for_record(lambda record: record["postwarden.verdict"] == "dropped")
    assert (record["client.address"], record["client.port"]) == ("192.168.7.7", 40000)
    assert record["network.peer.address"] == FRIEND


def test_invalid_policy_is_told_with_its_field_and_the_rules_in_force_go_on(
    api_server: ApiServer, namespace: str, start_sidecar: StartSidecar
) -> None:
    sidecar = start_sidecar()
    api_server.apply(policy("wall", namespace, **screening("127.66.0.0/16")))
    enforced(lambda: first_reply(sidecar.address, ZOMBIE), "521")
    wait_for_reasons(api_server, "wall", namespace, Accepted="True/Valid", Programmed="True/Synced")
    # Host bits: no schema sees them.
    api_server.apply(policy("wall", namespace, **screening("127.77.0.0/16", "10.0.0.1/8")))
    wait_for_reasons(api_server, "wall", namespace, Accepted="False/Invalid", Programmed="False/Pending")
    message = conditions(api_server, "wall", namespace)["Accepted"]["message"]
    assert message.startswith("spec.access.rules[0].cidrs[1]: 10.0.0.1/8")
    assert "10.0.0.0/8" in message
    assert first_reply(sidecar.address, ZOMBIE).startswith("521")
    assert first_reply(sidecar.address, OTHER_ZOMBIE).startswith("220")
    api_server.apply(policy("wall", namespace, **screening("127.77.0.0/16", "10.0.0.0/8")))
    enforced(lambda: first_reply(sidecar.address, OTHER_ZOMBIE), "521")
    wait_for_reasons(api_server, "wall", namespace, Accepted="True/Valid", Programmed="True/Synced")


def test_of_two_policies_for_a_pod_one_is_in_force_and_the_other_says_so(
    api_server: ApiServer, namespace: str, start_sidecar: StartSidecar
) -> None:
    sidecar = start_sidecar()
    # The older one wins, and of the same second the first by name: this one in either case.
    api_server.apply(policy("a-wall", namespace, **screening("127.66.0.0/16")))
    api_server.apply(policy("b-wall", namespace, **screening("127.77.0.0/16")))
    enforced(lambda: first_reply(sidecar.address, ZOMBIE), "521")
    wait_for_reasons(api_server, "a-wall", namespace, Accepted="True/Valid", Programmed="True/Synced")
    wait_for_reasons(api_server, "b-wall", namespace, Accepted="False/Conflicted")
    assert f"{namespace}/a-wall" in conditions(api_server, "b-wall", namespace)["Accepted"]["message"]
    assert first_reply(sidecar.address, OTHER_ZOMBIE).startswith("220")
    api_server.kubectl("delete", "spol", "a-wall", f"--namespace={namespace}")
    enforced(lambda: first_reply(sidecar.address, OTHER_ZOMBIE), "521")
    wait_for_reasons(api_server, "b-wall", namespace, Accepted="True/Valid", Programmed="True/Synced")


def test_list_that_is_missing_or_not_labelled_is_told_and_the_rules_in_force_go_on(
    api_server: ApiServer, namespace: str, start_sidecar: StartSidecar
) -> None:
    sidecar = start_sidecar()
    api_server.apply(policy("wall", namespace, **screening("127.66.0.0/16")))
    enforced(lambda: first_reply(sidecar.address, ZOMBIE), "521")
    api_server.apply(policy("wall", namespace, **screening_by_list("missing")))
    wait_for_reasons(api_server, "wall", namespace, Accepted="True/Valid", ResolvedRefs="False/RefNotFound")
    assert first_reply(sidecar.address, ZOMBIE).startswith("521")
    api_server.apply(config_map("plain", namespace, "127.77.0.0/16\n", watched=False))
    api_server.apply(policy("wall", namespace, **screening_by_list("plain")))
    wait_for_reasons(api_server, "wall", namespace, ResolvedRefs="False/RefNotLabelled")
    assert first_reply(sidecar.address, ZOMBIE).startswith("521")
    api_server.kubectl("label", "configmap", "plain", "postwarden.dev/watch=true", f"--namespace={namespace}")
    enforced(lambda: first_reply(sidecar.address, OTHER_ZOMBIE), "521")
    wait_for_reasons(api_server, "wall", namespace, ResolvedRefs="True/Resolved", Programmed="True/Synced")


def test_sidecars_are_counted_and_programmed_is_true_only_when_every_worker_has_the_rules(
    api_server: ApiServer, namespace: str, start_sidecar: StartSidecar
) -> None:
    start_sidecar("mta-0")
    slow = start_sidecar("mta-1")
    api_server.apply(policy("wall", namespace, **screening("127.66.0.0/16")))
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    os.kill(slow.worker, signal.SIGSTOP)
    try:
        api_server.apply(policy("wall", namespace, mode="Observe", **screening("127.66.0.0/16")))
        wait_for_reasons(api_server, "wall", namespace, Programmed="False/Pending")
        wait_for_counts(api_server, namespace, summary="1/2", matched=2, synced=1, pending=1, disconnected=0)
    finally:
        os.kill(slow.worker, signal.SIGCONT)
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    revision = policy_object(api_server, "wall", namespace)["status"]["revision"]
    header, row = api_server.kubectl("get", "spol", f"--namespace={namespace}").splitlines()
    assert header.split() == ["NAME", "MODE", "SIDECARS", "PROGRAMMED", "REVISION", "AGE"]
    assert row.split()[:5] == ["wall", "Observe", "2/2", "True", revision]
    slow.kill()
    wait_for_counts(api_server, namespace, summary="1/2", matched=2, synced=1, pending=0, disconnected=1)
    wait_for_reasons(api_server, "wall", namespace, Programmed="False/Pending")


def wait_for_counts(api_server: ApiServer, namespace: str, **expected: int | str) -> None:
    def counts() -> dict[str, Any]:
        found: dict[str, Any] = policy_object(api_server, "wall", namespace)["status"]["sidecars"]
        return found

    poll(lambda: expected.items() <= counts().items(), 10, lambda: f"expected {expected}, found {counts()}")


def test_header_for_an_mta_that_expects_none_is_told_and_clients_go_the_proved_way(
    api_server: ApiServer, namespace: str, start_sidecar: StartSidecar, mail_sink: MailSink
) -> None:
    sidecar = start_sidecar()
    wrong = {"port": mail_sink.port, "handoff": "ProxyV2"}
    api_server.apply(policy("wall", namespace, **screening("127.66.0.0/16", upstream=wrong)))
    enforced(lambda: first_reply(sidecar.address, ZOMBIE), "521")  # the rules are in force all the same
    wait_for_reasons(api_server, "wall", namespace, Accepted="True/Valid", Programmed="False/Rejected")
    message = conditions(api_server, "wall", namespace)["Programmed"]["message"]
    assert message.startswith("mta-0: ")
    # What the MTA said: its greeting and the refusal of the header may come together or one by one.
    assert any(said in message for said in (f"220 {GREETING}", "500 Error"))
    assert last_reply_to_mail(sidecar.address, FRIEND).startswith("250 2.0.0")
    right = {"port": mail_sink.port, "handoff": "Plain"}
    api_server.apply(policy("wall", namespace, **screening("127.66.0.0/16", upstream=right)))
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")


@pytest.mark.parametrize(
    ("relays", "handoff", "reason", "said"),
    [
        # As the MTA's replies to the header and to EHLO come together or not, one or the other is quoted.
        (False, "ProxyV1", "Rejected", "does not answer as the hand-off needs it: "),
        (True, "Plain", "OpenRelay", "would relay for the world"),
    ],
)
def test_hand_off_that_is_not_proved_is_told_and_clients_are_asked_to_come_again(
    api_server: ApiServer,
    namespace: str,
    start_sidecar: StartSidecar,
    mail_sink: MailSink,
    relays: bool,
    handoff: str,
    reason: str,
    said: str,
) -> None:
    mail_sink.relays = relays
    sidecar = start_sidecar(upstream=None)
    upstream = {"port": mail_sink.port, "handoff": handoff}
    api_server.apply(policy("wall", namespace, **screening("127.66.0.0/16", upstream=upstream)))
    wait_for_reasons(api_server, "wall", namespace, Programmed=f"False/{reason}")
    assert said in conditions(api_server, "wall", namespace)["Programmed"]["message"]
    assert last_reply_to_mail(sidecar.address, FRIEND).startswith("421 4.3.2")
    assert first_reply(sidecar.address, ZOMBIE).startswith("521")
    assert mail_sink.recipients == []
