"""Connections that are there by halves, in networks of the test's own: SYNs that nobody stands behind, and clients that vanish without a
word at every stage. The first cost the sidecar nothing, and of the others nothing stays.
"""

import itertools
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from harness.netns import NetworkNamespace
from harness.polling import poll
from harness.quick_mta import QuickMta
from harness.sidecar import Sidecar, up
from harness.smtp import Client
from harness.usage import descriptors, processor_seconds

SERVER, UNKNOWN, TALKER, PERMITTED, BALANCER = (f"10.73.0.{number}" for number in range(1, 6))
NOBODY = "198.18.0.0/15"
"""RFC 2544: whoever sends from there is not there for the answer."""

HALF_OPEN = 5_000
GONE = 60.0
"""Seconds until the last trace of vanished clients is gone: time limits of 1 s, and 5 s of retransmissions."""

POLICY = f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: wall}}
spec:
  selector: {{}}
  access: {{myNetworks: [], rules: [{{action: Permit, cidrs: [{PERMITTED}]}}]}}
  pregreet: {{banner: "mail.example.org ESMTP", wait: 1s}}
  session: {{commandTimeLimit: 1s}}
  listener: {{proxyProtocol: {{trusted: [{BALANCER}], timeout: 1s}}}}
"""


@dataclass
class Scene:
    clients: NetworkNamespace
    server: NetworkNamespace
    sidecar: Sidecar
    mta: QuickMta

    def connect(self, source: str) -> Client:
        return Client(SERVER, self.sidecar.port, source=source, network=self.clients)

    def deliver(self) -> None:
        """Good mail arrives."""
        with self.connect(PERMITTED) as client:
            client.greeted().deliver("bob@example.org")
            client.expect("QUIT", 221)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with NetworkNamespace() as server, NetworkNamespace() as clients:
        come(clients, server)
        # A dead client is known after some 3 s in place of some 15 minutes.
        server.run(["sysctl", "-q", "-w", "net.ipv4.tcp_retries2=3"])
        server.run(["ip", "route", "add", NOBODY, "via", UNKNOWN])
        with (
            server.call(QuickMta) as mta,
            up(
                POLICY,
                upstream=mta.address,
                handoff="plain",
                log_format="json",
                listen=f"{SERVER}:0",
                network=server,
            ) as sidecar,
        ):
            yield Scene(clients, server, sidecar, mta)


def come(clients: NetworkNamespace, server: NetworkNamespace) -> None:
    clients.link(server, [f"{each}/16" for each in (UNKNOWN, TALKER, PERMITTED, BALANCER)], [f"{SERVER}/16"])


def idle(scene: Scene) -> int:
    """The worker's descriptors once each that is opened for good is open and no client is there."""
    scene.deliver()
    (worker,) = scene.sidecar.workers()
    seen = [0]

    def steady() -> bool:
        seen.append(descriptors(worker))
        return scene.mta.open == 0 and len(set(seen[-10:])) == 1

    poll(steady, GONE, lambda: "the good mail's session is open")
    return seen[-1]


def test_syns_that_nobody_stands_behind_cost_the_sidecar_nothing(scene: Scene) -> None:
    (worker,) = scene.sidecar.workers()
    before, used = idle(scene), processor_seconds(worker)
    scene.clients.call(send_syns, scene.sidecar.port, HALF_OPEN)
    table = scene.server.run(["cat", "/proc/net/tcp"]).stdout
    assert sum(line.split()[3] == "03" for line in table.splitlines()[1:]) > 100, (
        "TCP_SYN_RECV, net/tcp_states.h"
    )
    assert descriptors(worker) <= before
    assert processor_seconds(worker) - used < 0.5
    for _ in range(5):
        scene.deliver()
    assert not any("198.18." in line or "198.19." in line for line in scene.sidecar.log())


def send_syns(port: int, count: int) -> None:
    """Each from an address of its own."""
    target = socket.inet_aton(SERVER)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number in range(count):
            source = struct.pack("!I", 0xC6120000 + number)  # 198.18.0.0
            flags = 0x5002  # five words of header, SYN
            tcp = struct.pack("!HHIIHHHH", 1024 + number, port, number, 0, flags, 65535, 0, 0)
            pseudo = source + target + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp))
            tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
            header = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_TCP, 0) + source + target
            raw.sendto(header + tcp, (SERVER, 0))


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def before_the_greeting(scene: Scene) -> Client:
    client = scene.connect(UNKNOWN)
    assert client.line().startswith("220-")
    return client


def in_the_dialogue(scene: Scene) -> Client:
    client = scene.connect(TALKER)
    client.send(b"EHLO talker.example\r\n")
    assert client.line().startswith("220-")
    assert client.reply().code == 250
    return client


def in_the_relay(scene: Scene) -> Client:
    return scene.connect(PERMITTED).greeted()


def amid_a_mail(scene: Scene) -> Client:
    return in_the_relay(scene).amid_a_mail()


def before_the_proxy_header(scene: Scene) -> Client:
    return scene.connect(BALANCER)


def test_of_clients_that_vanish_at_any_stage_nothing_stays(scene: Scene) -> None:
    """No packet comes from them any more, and none says that they are gone."""
    (worker,) = scene.sidecar.workers()
    before = idle(scene)
    stages = (in_the_relay, amid_a_mail, in_the_dialogue, before_the_proxy_header, before_the_greeting)
    gone = [stage(scene) for stage, _ in itertools.product(stages, range(3))]
    assert descriptors(worker) > before
    scene.clients.run(["ip", "address", "flush", "scope", "global"])
    for client in gone:
        client.close()
    used, began = processor_seconds(worker), time.monotonic()
    # Our own time limits end all but relays, which the MTA's end: a session has two descriptors there.
    poll(
        lambda: descriptors(worker) == before + 2 * scene.mta.open,
        GONE,
        lambda: f"{descriptors(worker)} open, {before} were, the MTA has {scene.mta.open} sessions",
    )
    scene.mta.hang_up()
    poll(lambda: descriptors(worker) <= before, GONE, lambda: f"{descriptors(worker)} open, {before} were")
    assert processor_seconds(worker) - used < 0.3 + 0.1 * (time.monotonic() - began)
    come(scene.clients, scene.server)
    scene.deliver()
