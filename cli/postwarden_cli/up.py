"""`postwarden up`: the whole system on one machine, without a cluster.

Contract: one line `ready listen=… policy=… version=…` on stdout when the policy is in force and the port accepts, one line
`applied policy=… version=…` for each edit that is in force; all else goes to stderr. SIGTERM and SIGINT drain, exit 0; a second one
ends at once. Exit 2: unusable arguments or a bad first policy.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

import click
from postwarden_sidecar.net.addresses import is_loopback
from postwarden_sidecar.option_types import Duration, HandoffName, HostPort, LoopbackPort, UpstreamTarget
from postwarden_sidecar.rules.settings import Handoff
from postwarden_sidecar.supervisor.settings import LogFormatName
from postwarden_sidecar.telemetry.own_log import STDERR, LogStream, PatientHandler

from postwarden_cli.system import StartFailed, System, SystemSettings

LOG_FORMATS: dict[str, LogFormatName] = {
    "json": "JSON",
    "postscreen": "Postscreen",
    "postscreen-legacy": "PostscreenLegacy",
    "pretty": "pretty",
}
UNUSABLE = 2  # exit code, as click's own for unusable arguments

EXAMPLES = """\b
Examples:
  Postfix on this machine, on port 10025, with
  smtpd_upstream_proxy_protocol=haproxy:
    postwarden up -f policy.yaml --listen 0.0.0.0:25 --upstream 127.0.0.1:10025 --handoff proxy-v2
  A folder of policies and lists, readable logs, state that survives a restart:
    postwarden up -f policies/ --listen 127.0.0.1:2525 --upstream 127.0.0.1:25 \\
      --handoff plain --log-format pretty --state-dir /var/lib/postwarden
"""


@click.command(epilog=EXAMPLES)
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    required=True,
    metavar="PATH",
    type=click.Path(exists=True, path_type=Path),
    help="YAML with policies, ConfigMaps and Secrets: a file, or a folder of them. May be repeated; edits are applied live.",
)
@click.option("--listen", type=HostPort(), required=True, help="Where clients connect.")
@click.option("--upstream", type=UpstreamTarget(), help="The MTA. Overrides the policy's.")
@click.option(
    "--handoff",
    type=HandoffName(),
    help="How clients are given to the MTA; both must agree on it. Overrides the policy's.",
)
@click.option(
    "--resolver",
    type=HostPort(),
    help="The resolver for DNS block lists. Overrides the policy's.",
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where passes and the last good rules are kept over a restart. Without it they are kept in memory.",
)
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that screen."
)
@click.option(
    "--log-format",
    type=click.Choice(list(LOG_FORMATS)),
    help="A line (or lines) a connection, on stderr. Overrides the policy's.",
)
@click.option("--otlp-endpoint", metavar="URL", help="Send traces, metrics and logs there by OTLP.")
@click.option("--metrics", type=HostPort(), help="Serve Prometheus metrics there, at /metrics.")
@click.option(
    "--admin",
    type=LoopbackPort(),
    help="Answer `postwarden tail` there, read-only; on loopback only.",
)
@click.option(
    "--drain-delay",
    type=Duration(),
    default="0s",
    show_default=True,
    help="After SIGTERM, go on as before for so long.",
)
@click.option(
    "--drain-timeout",
    type=Duration(),
    default="20s",
    show_default=True,
    help="After that, let sessions with the MTA go on for so long.",
)
def command(
    paths: tuple[Path, ...],
    listen: tuple[str, int],
    upstream: str | None,
    handoff: Handoff | None,
    resolver: tuple[str, int] | None,
    state_dir: Path | None,
    workers: int,
    log_format: str | None,
    otlp_endpoint: str | None,
    metrics: tuple[str, int] | None,
    admin: tuple[str, int] | None,
    drain_delay: float,
    drain_timeout: float,
) -> None:
    """Screen a mail server on this machine: the operator on files, a real push of its rules, and a sidecar.

    Every policy's selector matches here. Of several policies the first by namespace and name is in force; the others are reported.
    """
    log = LogStream(STDERR)
    logging.basicConfig(
        level=logging.INFO, handlers=[PatientHandler(log)], format="postwarden: %(levelname)s %(message)s"
    )
    settings = SystemSettings(
        paths=paths,
        listen=listen,
        upstream=upstream,
        handoff=handoff,
        state_dir=state_dir,
        workers=workers,
        resolver=resolver,
        log_format=None if log_format is None else LOG_FORMATS[log_format],
        otlp_endpoint=otlp_endpoint,
        metrics=metrics,
        admin=admin,
        drain_delay=drain_delay,
        drain_timeout=drain_timeout,
        strict_relay=not is_loopback(listen[0]),
        log_stream=log,
    )
    try:
        asyncio.run(_run(System(settings, report=click.echo)))
    except StartFailed as failure:
        click.echo(f"postwarden up: {failure}", err=True)
        sys.exit(UNUSABLE)


async def _run(system: System) -> None:
    """Start, serve until a signal, drain."""
    loop = asyncio.get_running_loop()
    stop, now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (now if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    starting = asyncio.create_task(system.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopping
            draining = asyncio.create_task(system.drain())
            ending = asyncio.create_task(now.wait())
            await asyncio.wait({draining, ending}, return_when=asyncio.FIRST_COMPLETED)
            for task in (draining, ending):
                task.cancel()
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await system.stop()
