"""An MTA that is down, comes up or is restarted, and a sidecar that is told to end: clients come back, mail under way is not cut."""

import os
import signal
from collections.abc import Callable

import pytest
from harness.polling import poll
from harness.postfix import Postfix
from harness.sidecar import Sidecar, up
from harness.smtp import Client, send_with_swaks

POLICY = """
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {name: mail}
spec:
  selector: {}
  access: {myNetworks: []}
  pregreet: {wait: 200ms}
  protocol: {pipelining: {enabled: false}, nonSMTPCommand: {enabled: false}, bareNewline: {enabled: false}}
"""
UNTESTED = POLICY.replace("wait: 200ms", 'banner: ""')

StartPostfix = Callable[..., Postfix]


def upstream_of(postfix: Postfix) -> str:
    return f"unix:{postfix.pass_socket}" if postfix.handoff == "pass" else postfix.address


def assert_comes_back_later(sidecar: Sidecar) -> None:
    """The greeting ends with 220, for a test was made, and the first command is told 421."""
    with Client(sidecar.host, sidecar.port) as client:
        codes = [client.reply().code]
        if codes == [220]:
            codes.append(client.ask("EHLO client.example").code)
        assert codes[-1] == 421
        assert client.rest() == b""


@pytest.mark.parametrize("handoff", ["proxy", "pass"])
def test_while_the_mta_is_down_clients_are_told_421_and_mail_flows_once_it_is_up(
    handoff: str, start_postfix: StartPostfix, swaks: str
) -> None:
    postfix = start_postfix(handoff=handoff)
    postfix.stop()
    flag = "proxy-v2" if handoff == "proxy" else "pass"
    with up(POLICY, upstream=upstream_of(postfix), handoff=flag) as sidecar:
        assert_comes_back_later(sidecar)
        assert_comes_back_later(sidecar)  # has its pass by now: no test
        sidecar.wait_for_log("no connection to the MTA")
        postfix.start()
        send_with_swaks(swaks, sidecar.address, "bob@example.org")  # tried, even before the next proof
        postfix.wait_for_mail("bob")
        postfix.restart()
        send_with_swaks(swaks, sidecar.address, "bob@example.org")
        postfix.wait_for_mail("bob", 2)
        postfix.stop()
        assert_comes_back_later(sidecar)
        postfix.start()
        send_with_swaks(swaks, sidecar.address, "bob@example.org")
        postfix.wait_for_mail("bob", 3)


def test_an_mta_that_is_stopped_cuts_its_sessions_and_no_other_mail_is_harmed(
    start_postfix: StartPostfix, swaks: str
) -> None:
    postfix = start_postfix()
    with up(UNTESTED, upstream=postfix.address, handoff="plain") as sidecar:
        with Client(sidecar.host, sidecar.port) as client:
            client.greeted().expect("MAIL FROM:<alice@client.example>", 250)
            postfix.stop()
            rest = client.rest()
            assert rest == b"" or rest.startswith(b"421")
        postfix.start()
        send_with_swaks(swaks, sidecar.address, "bob@example.org")
        postfix.wait_for_mail("bob")


@pytest.mark.parametrize("handoff", ["proxy", "pass"])
def test_sigterm_lets_a_mail_under_way_end_and_turns_new_clients_away(
    handoff: str, start_postfix: StartPostfix
) -> None:
    postfix = start_postfix(handoff=handoff)
    flag = "proxy-v1" if handoff == "proxy" else "pass"
    deny = UNTESTED.replace("myNetworks: []", "myNetworks: [], rules: [{action: Reject, cidrs: [127.0.0.9]}]")
    with up(deny, upstream=upstream_of(postfix), handoff=flag) as sidecar:
        with (
            Client(sidecar.host, sidecar.port) as relayed,
            Client(sidecar.host, sidecar.port, source="127.0.0.9") as refused,
        ):
            relayed.greeted().expect("MAIL FROM:<alice@client.example>", 250)
            refused.greeted()
            sidecar.terminate()
            assert str(refused.reply()).startswith("421 4.3.2")
            assert refused.rest() == b""
            if handoff == "proxy":  # a passed session is the MTA's alone: nothing is left to wait for
                with Client(sidecar.host, sidecar.port) as late:
                    assert str(late.reply()).startswith("421 4.3.2")
            relayed.expect("RCPT TO:<bob@example.org>", 250)
            relayed.expect("DATA", 354)
            relayed.expect("Subject: late\r\n\r\nDear Bob\r\n.", 250)
            relayed.expect("QUIT", 221)
        assert sidecar.wait() == 0
        (mail,) = postfix.wait_for_mail("bob")
        assert mail["Subject"] == "late"


def test_a_second_signal_ends_it_at_once(start_postfix: StartPostfix) -> None:
    postfix = start_postfix()
    sidecar = up(UNTESTED, upstream=postfix.address, handoff="plain")
    with sidecar, Client(sidecar.host, sidecar.port) as client:
        client.greeted()
        sidecar.terminate()
        sidecar.wait_for_log("draining")
        os.kill(sidecar.pid, signal.SIGINT)
        assert sidecar.wait() == 0
        assert client.rest() == b""


def test_a_killed_worker_is_replaced_and_mail_flows(start_postfix: StartPostfix, swaks: str) -> None:
    postfix = start_postfix()
    with up(UNTESTED, "--workers", "2", upstream=postfix.address, handoff="plain") as sidecar:
        before = sidecar.workers()
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        poll(lambda: len(sidecar.workers()) == 2 and before[0] not in sidecar.workers(), 10, sidecar.log_text)
        for count in range(1, 5):
            send_with_swaks(swaks, sidecar.address, "bob@example.org")
            postfix.wait_for_mail("bob", count)
