"""`postwarden demo`: the whole system on loopback, sample clients of every kind, and what became of each.

Contract: no root, no network, no cluster; ends by itself within DEMO_TIMEOUT; exit code 0 if every client got the verdict that it is
there to show. On a terminal a live table, else the table once at the end; `--json` for programs.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import click
from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.rules.settings import Handoff
from postwarden_sidecar.telemetry.pretty import without_address
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from postwarden_cli.demo_clients import SAMPLE_CLIENTS, SampleClient, run_client
from postwarden_cli.demo_sink import Sink, start_sink
from postwarden_cli.system import StartFailed, System, SystemSettings

DEMO_TIMEOUT = 60.0  # seconds; it takes about 8
REFRESH = 0.1  # seconds between two looks of the live table
PIPED_WIDTH = 170  # columns: a row a line
ROOM_FOR_REPLIES = 120  # columns
LAST_RECORD = 3.0  # seconds that the last verdicts may take to arrive after the last client is done

POLICY = """\
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {name: demo, namespace: default}
spec:
  selector: {}
  access:
    myNetworks: []
    rejectAction: Enforce
    rules:
    - action: Permit
      cidrs: [127.0.2.0/24]
    - listFrom:
        configMapKeyRef: {name: spam-sources, key: networks}
      action: Reject
  pregreet:
    action: Enforce
    wait: 2s
    ttl: 24h
  exemptions:
    recipients: ["postmaster@"]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: spam-sources, namespace: default}
data:
  networks: |
    # one network a line
    127.66.0.0/16
"""

COLOURS = {
    Verdict.ALLOWLISTED: "green",
    Verdict.PASS_NEW: "green",
    Verdict.PASS_OLD: "green",
    Verdict.EXEMPTED: "green",
    Verdict.REJECTED: "red",
    Verdict.DROPPED: "red",
    Verdict.HANGUP: "yellow",
}


@dataclass
class Visit:
    """One sample client's connection, as far as it got."""

    client: SampleClient
    saw: str = ""
    record: Record | None = None

    @property
    def as_shown(self) -> bool:
        """The verdict is the one that this client is there to show."""
        return self.record is not None and self.record.verdict == self.client.expected


@dataclass
class Demo:
    """What happened so far."""

    visits: list[Visit] = field(default_factory=lambda: [Visit(client) for client in SAMPLE_CLIENTS])

    def take(self, records: Sequence[Record]) -> None:
        """A verdict belongs to the first visit from its address that has none yet: visits of one address do not overlap."""
        for record in records:
            for visit in self.visits:
                if visit.client.address == record.client_address and visit.record is None:
                    visit.record = record
                    break

    def table(self, width: int) -> Table:
        """One row a client; what it heard is left out where there is no room."""
        table = Table(title="postwarden demo: who may speak to the mail server", expand=True)
        for header in ("Client", "Address", "Verdict", "After"):
            table.add_column(header, no_wrap=True)
        table.add_column("Why", ratio=5)
        if width >= ROOM_FOR_REPLIES:
            table.add_column("It heard", ratio=4)
        for visit in self.visits:
            record = visit.record
            row = [visit.client.kind, visit.client.address, "…", "", ""]
            if record is not None:
                colour = COLOURS.get(record.verdict, "yellow")
                why = without_address(record.reason, record.client_address)
                row[2:] = [f"[{colour}]{record.verdict.value}[/]", f"{record.duration:.2f} s", escape(why)]
            table.add_row(*row, *([escape(visit.saw)] if width >= ROOM_FOR_REPLIES else []))
        return table

    def rows(self) -> list[dict[str, object]]:
        """The same for programs."""
        return [
            {
                "client": visit.client.kind,
                "address": visit.client.address,
                "verdict": None if visit.record is None else visit.record.verdict.value,
                "seconds": None if visit.record is None else round(visit.record.duration, 3),
                "reason": None if visit.record is None else visit.record.reason,
                "heard": visit.saw,
            }
            for visit in self.visits
        ]


@click.command(epilog="Examples: postwarden demo; postwarden demo --json | jq .clients[].verdict")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, without the table.")
def command(as_json: bool) -> None:
    """See it work: a small mail server, screened, and sample clients of every kind. Takes about 8 seconds; needs no root and no network."""
    logging.basicConfig(
        level=logging.ERROR, stream=sys.stderr, format="postwarden: %(levelname)s %(message)s"
    )
    demo, sink = Demo(), Sink()
    began = time.monotonic()
    try:
        asyncio.run(_play(demo, sink, _console(quiet=as_json)))
    except (StartFailed, TimeoutError, OSError) as failure:
        click.echo(f"postwarden demo: {failure or 'it took too long'}", err=True)
        sys.exit(1)
    if as_json:
        deliveries = [vars(delivery) for delivery in sink.deliveries]
        click.echo(json.dumps({"clients": demo.rows(), "delivered": deliveries}, indent=2))
    else:
        _summarise(_console(), demo, sink, time.monotonic() - began)
    sys.exit(0 if all(visit.as_shown for visit in demo.visits) else 1)


def _console(*, quiet: bool = False) -> Console:
    """As wide as the terminal; wide enough for a row a line where there is none."""
    return Console(quiet=quiet, width=None if sys.stdout.isatty() else PIPED_WIDTH)


async def _play(demo: Demo, sink: Sink, console: Console) -> None:
    """Start all, send the clients, wait for their verdicts, stop all."""
    # A free port for the mail server: bound and let go, as aiosmtpd opens its own socket.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    controller = start_sink(sink, port)
    with tempfile.TemporaryDirectory(prefix="postwarden-demo-") as folder:
        policy = Path(folder) / "policy.yaml"
        policy.write_text(POLICY)
        system = System(
            SystemSettings(
                paths=[policy],
                listen=("127.0.0.1", 0),
                upstream=f"127.0.0.1:{port}",
                handoff=Handoff.PROXY_V2,
                log_stream=io.BytesIO(),  # the table says it all
                on_records=demo.take,
            ),
            report=lambda line: None,
        )
        try:
            async with asyncio.timeout(DEMO_TIMEOUT):
                await system.start()
                await _send_clients(demo, system, console)
                await system.drain()
        finally:
            await system.stop()
            await asyncio.to_thread(controller.stop)


async def _send_clients(demo: Demo, system: System, console: Console) -> None:
    host, port = system.listen_address

    async def visit_once(visit: Visit) -> None:
        await asyncio.sleep(visit.client.after)
        visit.saw = await run_client(visit.client, host, port)

    visits = asyncio.gather(*(visit_once(visit) for visit in demo.visits))
    # Live rewrites the table in place; where there is no terminal it is printed once, at the end.
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        deadline: float | None = None
        while deadline is None or time.monotonic() < deadline:
            if live is not None:
                live.update(demo.table(console.width), refresh=True)
            if visits.done():
                visits.result()
                if all(visit.record is not None for visit in demo.visits):
                    break
                deadline = deadline or time.monotonic() + LAST_RECORD
            await asyncio.sleep(REFRESH)
        if live is None:
            console.print(demo.table(console.width))
        else:
            live.update(demo.table(console.width), refresh=True)


def _summarise(console: Console, demo: Demo, sink: Sink, seconds: float) -> None:
    verdicts = Counter(visit.record.verdict for visit in demo.visits if visit.record is not None)
    kept_out = sum(verdicts[verdict] for verdict in (Verdict.REJECTED, Verdict.DROPPED, Verdict.HANGUP))
    console.print(
        f"{sum(verdicts.values())} connections in {seconds:.0f} s: {kept_out} never reached the mail server, "
        f"{len(sink.deliveries)} mails arrived there:"
    )
    for delivery in sink.deliveries:
        console.print(f"  from <{delivery.sender}> at {delivery.client} to <{delivery.recipient}>")
    wrong = [visit.client.kind for visit in demo.visits if not visit.as_shown]
    if wrong:
        console.print(f"[red]not as it should be: {', '.join(wrong)}[/]")
    console.print(
        "Next: postwarden up -f examples/policy.yaml --listen 127.0.0.1:2525 --upstream HOST:PORT --handoff plain",
        soft_wrap=True,
        highlight=False,
    )
