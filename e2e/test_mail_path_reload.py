"""New rules touch no open connection: sessions of every kind survive a hundred edits and go on under the rules that they began with."""

from collections.abc import Callable

from harness.mail_network import PERMITTED, PUBLIC, REJECTED, MailNetwork, mail_network, mx_for
from harness.postfix import Postfix
from harness.sidecar import Sidecar, up
from harness.smtp import Client

__all__ = ["mail_network"]

EDITS = 100
LONG = "wait: 1m, action: Enforce"
"""The longest greeting wait that a policy may have; half of the edits take 20 s, for each is looked at twice before it counts."""

StartPostfix = Callable[..., Postfix]


def policy(reject_action: str, pregreet: str, listed: str) -> str:
    """With `listed`, lines of a PostfixCIDR list."""
    return f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: mail}}
spec:
  selector: {{}}
  access:
    myNetworks: []
    rejectAction: {reject_action}
    rules: [{{listFrom: {{configMapKeyRef: {{name: access, key: access.cidr}}, format: PostfixCIDR}}}}]
  pregreet: {{{pregreet}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: access, labels: {{postwarden.dev/watch: "true"}}}}
data:
  access.cidr: |
    {listed}
"""


FIRST_LIST = "192.168.0.1 permit\n    192.168.0.0/16 reject"


def connect(sidecar: Sidecar, network: MailNetwork, address: str) -> Client:
    return Client(mx_for(address), sidecar.port, source=address, network=network.outside)


def edit_often(sidecar: Sidecar, numbers: range, while_open: Callable[[], None]) -> None:
    """Each is in force before the next: policy and list change in turn; all of them drop everybody and wait for seconds only."""
    for number in numbers:
        listed = f"10.0.0.{number // 2} permit\n    0.0.0.0/0 reject"
        sidecar.edit(policy("Drop", f"wait: {1 + number % 2}s, action: Drop", listed))
        if number % 10 == 0:
            while_open()


def test_open_sessions_survive_a_hundred_edits_under_the_rules_they_began_with(
    start_postfix: StartPostfix, mail_network: MailNetwork
) -> None:
    postfix = start_postfix(handoff="proxy", network=mail_network.mx)
    with (
        up(
            policy("Enforce", 'banner: ""', FIRST_LIST),
            upstream=postfix.address,
            handoff="proxy-v2",
            listen="0.0.0.0:0",
            network=mail_network.mx,
        ) as sidecar,
        connect(sidecar, mail_network, PERMITTED) as relayed,
        connect(sidecar, mail_network, REJECTED) as refused,
    ):
        for client in (relayed, refused):
            client.greeted().expect("MAIL FROM:<alice@client.example>", 250)
        workers = sidecar.workers()

        def both_are_open() -> None:
            for client in (relayed, refused):
                client.expect("NOOP", 250)

        for numbers in (range(EDITS // 2), range(EDITS // 2, EDITS)):
            sidecar.edit(policy("Enforce", LONG, FIRST_LIST))
            with connect(sidecar, mail_network, PUBLIC) as waiting:
                assert waiting.line().startswith("220-")
                edit_often(sidecar, numbers, both_are_open)
                waiting.send(b"EHLO client.example\r\n")  # too early: Enforce when it came, Drop by now
                assert waiting.reply().code == 250
                waiting.expect("MAIL FROM:<alice@client.example>", 250)
                assert str(waiting.expect("RCPT TO:<bob@example.org>", 550)) == "550 5.5.1 Protocol error"
        assert sidecar.applied() == EDITS + 2
        assert sidecar.workers() == workers
        with connect(sidecar, mail_network, PERMITTED) as new:  # the last rules
            assert new.line() == "521 5.3.2 Service currently unavailable"
        refused.expect("RCPT TO:<bob@example.org>", 550)
        refused.expect("QUIT", 221)
        relayed.expect("RCPT TO:<bob@example.org>", 250)
        relayed.expect("DATA", 354)
        relayed.expect("Subject: a hundred edits later\r\n\r\nDear Bob\r\n.", 250)
        relayed.expect("QUIT", 221)
        (mail,) = postfix.wait_for_mail("bob")
        assert f"[{PERMITTED}]" in mail["Received"]
        sidecar.wait_for_log(rf"NOQUEUE: reject: RCPT from \[{REJECTED}\].*550 5.3.2")
        sidecar.wait_for_log(rf"NOQUEUE: reject: RCPT from \[{PUBLIC}\].*550 5.5.1", count=2)
