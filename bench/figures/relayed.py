"""Whole mails of known clients: relayed to Postfix with PROXY v2, beside the same Postfix without anything before it, and with HAProxy
before it, which does nothing but relay.

Mail is thrown away behind the queue (discard(8)), for what a delivery costs is not the question. All processes share the machine's cores.
"""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from harness.postfix import Postfix
from harness.postfix_configuration import Handoff
from harness.postfix_fixtures import make_postfix_root

from bench.cases.case import Case
from bench.control_group import ControlGroup
from bench.figures.figure import Figure, Said
from bench.load_generator import FIRST_SOURCE, Load
from bench.measure import measure
from bench.systems import haproxy
from bench.systems.pod import pod, policy
from bench.systems.system import Running

NAME = "relayed"
TITLE = "known client, relayed with PROXY v2, whole mails"

SENDERS = 20
"""At a time."""

SOURCES = f"{FIRST_SOURCE}:100"

SIZES = {"10 KB": (10_240, 1_500), "1 MB": (1_048_576, 150)}
"""Bytes of a mail, and how many."""

SPEC = """
  access: {myNetworks: []}
  pregreet: {wait: 1s}
"""

SETTINGS = {
    "default_process_limit": "200",
    "smtpd_tls_security_level": "none",
    "local_transport": "discard:",
    # Else the queue manager slows down whoever brings mail faster than it goes.
    "in_flow_delay": "0",
    "smtpd_client_connection_count_limit": "0",
}


@contextmanager
def _postfix(handoff: Handoff) -> Iterator[tuple[Postfix, ControlGroup]]:
    services = ["discard unix - - n - - discard"]
    with ControlGroup("mta") as group:
        postfix = Postfix(make_postfix_root(), handoff=handoff, settings=SETTINGS, services=services)
        with group.joined():
            postfix.__enter__()
        try:
            yield postfix, group
        finally:
            postfix.__exit__(None, None, None)


class Smtpd:
    """Postfix alone."""

    name = "smtpd"

    @contextmanager
    def start(self, case: Case) -> Iterator[Running]:
        with _postfix("plain") as (postfix, group):
            yield Running(postfix.address, group)


class Relay:
    """The sidecar before it."""

    name = "postwarden"

    @contextmanager
    def start(self, case: Case) -> Iterator[Running]:
        with (
            _postfix("proxy") as (postfix, behind),
            pod([policy(case.spec)], upstream=postfix.address, handoff="proxy-v2") as started,
        ):
            yield Running(started.address, started.group, {"mta": behind})


class HAProxyRelay:
    """HAProxy before it."""

    name = "haproxy"

    @contextmanager
    def start(self, case: Case) -> Iterator[Running]:
        with _postfix("proxy") as (postfix, behind), haproxy.relay(postfix.address) as started:
            yield replace(started, others={"mta": behind})


def study(rounds: int, scale: float, said: Said) -> Sequence[Figure]:
    """See Study."""
    figures = []
    for size, (length, mails) in SIZES.items():
        load = Load("mail", mails, SENDERS, sources=SOURCES, argument=str(length))
        case = Case(
            name=f"{NAME} {size}",
            title=TITLE,
            load=load,
            warm_up=Load("mail", SENDERS * 2, SENDERS, sources=SOURCES, argument=str(length)),
            visit=Load("greeted", 100, 100, sources=SOURCES),
            replies=frozenset({"220", "221", "250", "354"}),
            systems=(Smtpd.name, Relay.name, HAProxyRelay.name),
            spec=SPEC,
        )
        found = measure(case, [Smtpd(), Relay(), HAProxyRelay()], rounds, scale=scale, said=said)
        speed = {
            name: statistics.median(each.per_second for each in samples) for name, samples in found.items()
        }
        each_mail = {
            name: statistics.median(sample.cpu_seconds / sample.connections for sample in samples) * 1e3
            for name, samples in found.items()
        }
        figures += [
            Figure(f"{size}: smtpd alone", speed[Smtpd.name], "mails a second"),
            Figure(f"{size}: relayed", speed[Relay.name], "mails a second"),
            Figure(f"{size}: ratio", speed[Relay.name] / speed[Smtpd.name], "", at_least=0.9),
            Figure(f"{size}: ratio of HAProxy", speed[HAProxyRelay.name] / speed[Smtpd.name], ""),
            Figure(f"{size}: the sidecar's CPU", each_mail[Relay.name], "ms a mail"),
            Figure(f"{size}: HAProxy's CPU", each_mail[HAProxyRelay.name], "ms a mail"),
            Figure(f"{size}: smtpd's CPU, alone", each_mail[Smtpd.name], "ms a mail"),
        ]
    return figures
