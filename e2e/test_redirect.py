"""Interception by the kernel: a pod whose clients are redirected to the sidecar, in namespaces: the pod, the world outside, and the node.

The rules are written as the init container writes them, with the variables that injection gives it.
"""

import json
import os
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness.mail_network import (
    OTHERS,
    PERMITTED,
    PUBLIC,
    PUBLIC_MX,
    V6,
    MailNetwork,
    mail_network,
    mx_for,
)
from harness.mail_server import MailServer
from harness.netns import NetworkNamespace
from harness.polling import poll
from harness.postfix import Postfix
from harness.postfix_fixtures import progress_seen
from harness.sidecar import Sidecar, executable, run
from harness.smtp import Client, send_with_aiosmtplib
from harness.toolchain import apt_install

__all__ = ["mail_network"]

POD, NODE, POD_V6, NODE_V6 = "10.244.7.2", "10.244.7.1", "fd00:7::2", "fd00:7::1"
"""What kubelet sees of the pod, and comes from."""

RECORD_TIMEOUT = 20.0
"""Seconds from a connection's end to its record; some 10 ms are usual."""

PROOF_PORT = 10029
VARIABLES = {
    "POSTWARDEN_LISTEN": ":10025",
    "POSTWARDEN_HEALTH": ":10026",
    "POSTWARDEN_REDIRECT_PORT": "25",
    "POSTWARDEN_REDIRECT_PROOF_PORT": str(PROOF_PORT),
}
WITH_NET_ADMIN_ALONE = ("setpriv", "--bounding-set=-all,+net_admin", "--no-new-privs")
"""As `capabilities: {drop: [ALL], add: [NET_ADMIN]}` gives it to root."""

FAR = "203.0.113.9"
"""Somebody else's mail server; one of the clients' addresses."""

BALANCER = OTHERS[3]
"""Tells the addresses of whom it speaks for; as trusted as `postwarden.dev/proxy-trusted` makes one."""

SUBMISSION = "127.0.0.1:587 inet n - n - - smtpd -o mynetworks=127.0.0.0/8"


@dataclass(frozen=True)
class Pod:
    network: NetworkNamespace
    outside: NetworkNamespace
    node: NetworkNamespace
    mta: Postfix
    far: MailServer
    sidecar: Sidecar

    def clients(self, address: str, more_than: int = 0) -> list[dict[str, Any]]:
        """The sidecar's records of connections from there, once there are more. Raises TimeoutError."""

        def found() -> list[dict[str, Any]] | None:
            records = self.records(address)
            return records if len(records) > more_than else None

        return poll(found, RECORD_TIMEOUT, self.sidecar.log_text)

    def records(self, address: str) -> list[dict[str, Any]]:
        """The same, of now."""
        records = (json.loads(line) for line in self.sidecar.output())
        return [each for each in records if each["client.address"] == address]


@pytest.fixture(scope="module", autouse=True)
def programs(pytestconfig: pytest.Config) -> None:
    """Of Debian."""
    packages = {"nft": "nftables", "iptables-legacy": "iptables"}
    with progress_seen(pytestconfig):
        apt_install([package for program, package in packages.items() if shutil.which(program) is None])


@pytest.fixture(scope="module")
def pod(mail_network: MailNetwork, postfix_root: Path) -> Iterator[Pod]:
    """Its MTA wants PROXY headers, and listens on all of the pod's addresses, as it did before it was screened."""
    mx = mail_network.mx
    relaying = {"relayhost": f"[{FAR}]:25", "defer_transports": ""}
    with (
        NetworkNamespace() as node,
        Postfix(
            postfix_root,
            listen="0.0.0.0:25",
            handoff="proxy",
            network=mx,
            settings=relaying,
            services=[SUBMISSION],
        ) as mta,
        Postfix(
            postfix_root,
            listen=f"{FAR}:25",
            hostname="mx.far.example",
            domain="far.example",
            network=mail_network.outside,
        ) as far,
    ):
        node.link(mx, here=[f"{NODE}/24", f"{NODE_V6}/64"], there=[f"{POD}/24", f"{POD_V6}/64"])
        assert init_redirect(mx).returncode == 0
        options = [
            *("--log-format=json", "--upstream=127.0.0.1:25", "--handoff=proxy-v2", f"--pod-ip={POD}"),
            *("--redirected-port=25", f"--proxy-trusted={BALANCER}"),
        ]
        # The last --listen counts: all addresses, of both families.
        with run(
            *options, "--listen=:10025", "--health=:10026", listen="0.0.0.0:10025", network=mx
        ) as sidecar:
            sidecar.wait_for_log("hand-off ProxyV2 to 127.0.0.1:25: Proved")
            yield Pod(mx, mail_network.outside, node, mta, far, sidecar)


def init_redirect(
    network: NetworkNamespace,
    *options: str,
    prefix: Sequence[str] = WITH_NET_ADMIN_ALONE,
    variables: Mapping[str, str] = VARIABLES,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        network.command([*prefix, executable("postwarden-sidecar"), "init-redirect", *options]),
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": os.environ["PATH"], **variables},
    )


def probe(network: NetworkNamespace, host: str, path: str = "/readyz", port: int = PROOF_PORT) -> int:
    """As kubelet's httpGet: the status, 0 where nobody answers."""

    def get() -> int:
        where = f"[{host}]" if ":" in host else host
        try:
            with urllib.request.urlopen(f"http://{where}:{port}{path}", timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            return 0

    return network.call(get)


def rules(network: NetworkNamespace) -> str:
    return network.run(["nft", "list", "ruleset"]).stdout


def greeted_by(network: NetworkNamespace, host: str, port: int) -> str:
    """What the `greeter` says to whoever comes to that port, and how it calls both ends."""

    def connect() -> str:
        with socket.create_connection((host, port), 5) as connection:
            return connection.makefile().readline().strip()

    return network.call(connect)


@contextmanager
def greeter(network: NetworkNamespace, port: int, name: str) -> Iterator[None]:
    """Says its name and the client's address to whoever comes."""

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, peer = listening.accept()
                with connection:
                    connection.sendall(f"{name} {peer[0].removeprefix('::ffff:')}\n".encode())

    made = lambda: socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)  # noqa: E731
    listening = network.call(made)
    thread = threading.Thread(target=serve, args=(listening,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def proxy_header(host: str, client: str) -> bytes:
    """Of whoever says that he speaks for that client."""
    return f"PROXY TCP4 {client} {host} 4000 25\r\n".encode()


@pytest.mark.parametrize("client", [PERMITTED, PUBLIC, V6])
def test_clients_from_outside_come_to_the_sidecar_with_their_own_address(pod: Pod, client: str) -> None:
    user = f"user-{client.replace(':', '-')}"
    send_with_aiosmtplib(mx_for(client), 25, f"{user}@example.org", source=client, network=pod.outside)
    (mail,) = pod.mta.wait_for_mail(user)
    address = f"IPv6:{client}" if ":" in client else client
    assert f"[{address}]" in mail["Received"]
    (record,) = pod.clients(client)
    assert (record["server.address"], record["server.port"]) == (mx_for(client), 10025)


def test_a_load_balancers_proxy_header_comes_to_the_sidecar_and_its_clients_address_to_the_mta(
    pod: Pod,
) -> None:
    with Client(mx_for(BALANCER), 25, source=BALANCER, network=pod.outside) as client:
        client.send(proxy_header(mx_for(BALANCER), "198.51.100.7"))
        client.greeted().deliver("balanced@example.org")
    (mail,) = pod.mta.wait_for_mail("balanced")
    assert "[198.51.100.7]" in mail["Received"]
    (record,) = pod.clients("198.51.100.7")
    assert record["network.peer.address"] == BALANCER


def test_what_the_mta_sends_to_port_25_elsewhere_goes_there(pod: Pod) -> None:
    with Client("127.0.0.1", 587, network=pod.network) as client:
        client.greeted().deliver("carol@far.example")
    (mail,) = pod.far.wait_for_mail("carol")
    assert f"[{PUBLIC_MX}]" in str(mail["Received"])


def test_the_mtas_port_answers_from_inside_and_nobody_outside_can_write_himself_an_address(pod: Pod) -> None:
    with Client(POD, 25, network=pod.network) as inside:
        inside.send(proxy_header(POD, PERMITTED))
        assert inside.reply().code == 220, "the MTA itself, who believes it"
    for network, host in ((pod.node, POD), (pod.outside, PUBLIC_MX)):
        with Client(host, 25, network=network) as outside:
            outside.send(proxy_header(host, PERMITTED))
            assert outside.reply().code == 220, "the sidecar's, or the MTA's by way of it"
            assert outside.reply().code in (500, 502), "it is no SMTP command"
    assert "any pod may write itself an address" not in pod.sidecar.log_text()


def test_sidecar_that_knows_of_no_redirect_warns_of_the_mtas_port(pod: Pod) -> None:
    options = ("--upstream=127.0.0.1:25", "--handoff=proxy-v2", f"--pod-ip={POD}")
    with run(*options, network=pod.network) as another:
        another.wait_for_log(f"the MTA's port 25 answers on {POD}: any pod may write itself an address there")


def test_again_changes_nothing_and_cuts_no_session(pod: Pod) -> None:
    before = rules(pod.network)
    assert before.count("chain clients") == 2
    with Client(PUBLIC_MX, 25, source=OTHERS[2], network=pod.outside) as client:
        client.greeted()
        again = init_redirect(pod.network)
        assert (again.returncode, again.stderr) == (0, "")
        assert again.stdout == "clients of TCP port 25 come to port 10025 now (IPv4 and IPv6)\n"
        client.deliver("dave@example.org")
    assert rules(pod.network) == before


@pytest.mark.parametrize(("node", "address"), [(NODE, POD), (NODE_V6, POD_V6)])
def test_kubelets_probe_of_the_proof_port_succeeds_by_the_rule_alone_and_is_no_client(
    pod: Pod, node: str, address: str
) -> None:
    before = len(pod.records(node))
    assert probe(pod.node, address) == 200
    assert probe(pod.network, address) == 0, "nothing listens there"
    pod.network.run(["nft", "flush", "ruleset"])
    try:
        assert probe(pod.node, address) == 0
        assert probe(pod.node, address, port=10026) == 200, "the sidecar itself is ready"
    finally:
        assert init_redirect(pod.network).returncode == 0
    assert probe(pod.node, address) == 200
    # One of the MTA's port, as kubelet's tcpSocket, is one.
    with Client(address, 25, source=node, network=pod.node):
        pass
    assert len(pod.clients(node, before)) == before + 1


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_pod_of_one_family_is_redirected(family: str) -> None:
    ours, theirs = {"IPv4": (f"{POD}/24", f"{NODE}/24"), "IPv6": (f"{POD_V6}/64", f"{NODE_V6}/64")}[family]
    with NetworkNamespace() as pod, NetworkNamespace() as node:
        if family == "IPv4":
            pod.run(["sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1"])
        pod.link(node, here=[ours], there=[theirs])
        assert init_redirect(pod).returncode == 0
        with greeter(pod, 10025, "sidecar"):
            address, peer = ours.partition("/")[0], theirs.partition("/")[0]
            assert greeted_by(node, address, 25) == f"sidecar {peer}"


@pytest.mark.parametrize("iptables", ["iptables-legacy", "iptables-nft"])
def test_rules_of_others_stay_and_ours_come_first_for_the_mtas_port(iptables: str) -> None:
    with NetworkNamespace() as pod, NetworkNamespace() as node:
        node.link(pod, here=[f"{NODE}/24"], there=[f"{POD}/24"])
        # A service mesh's: all that comes in.
        mesh = "-t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 15006"
        pod.run([iptables, *mesh.split()])
        assert init_redirect(pod).returncode == 0
        with greeter(pod, 10025, "sidecar"), greeter(pod, 15006, "mesh"):
            assert greeted_by(node, POD, 25) == f"sidecar {NODE}"
            assert greeted_by(node, POD, 80) == f"mesh {NODE}"
        assert "15006" in pod.run([iptables, "-t", "nat", "-S"]).stdout


def test_without_net_admin_it_says_what_the_container_needs() -> None:
    with NetworkNamespace() as pod:
        refused = init_redirect(pod, prefix=("setpriv", "--bounding-set=-all"))
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "Error: clients can't be redirected: NET_ADMIN is missing: give the container "
    )
    assert refused.stderr.count("\n") == 1
