"""The command `postwarden-sidecar`: what the image starts. Settings come from flags and POSTWARDEN_*
variables.

For the upstream and the hand-off the two differ: a flag overrides the policy, a variable (the bootstrap that
the injection writes) is used where neither flag, nor policy, nor last known good says anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import ipaddress
import logging
import signal
import socket
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from postwarden_sidecar.controlclient.target import SHORTEST_KEEPALIVE
from postwarden_sidecar.controlclient.trust import TrustUnusable, expiry
from postwarden_sidecar.ipc.page import MAX_WORKERS
from postwarden_sidecar.option_types import (
    Duration,
    HandoffName,
    HostPort,
    LoopbackPort,
    Networks,
    UpstreamTarget,
)
from postwarden_sidecar.redirect.command import PORT, init_redirect
from postwarden_sidecar.supervisor.cpu_limit import workers_by_cpu_limit
from postwarden_sidecar.supervisor.settings import (
    ControlTarget,
    LogFormatName,
    SidecarSettings,
    UpstreamChoice,
    WithoutRules,
)
from postwarden_sidecar.supervisor.state_directory import ADMIN_SOCKET
from postwarden_sidecar.telemetry.own_log import STDERR, LogStream, PatientHandler

_LOG_FORMATS: dict[str, LogFormatName] = {
    "json": "JSON",
    "postscreen": "Postscreen",
    "postscreen-legacy": "PostscreenLegacy",
    "pretty": "pretty",
}
_CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
}

_log = logging.getLogger(__name__)


@click.group(context_settings=_CONTEXT)
@click.version_option(version("postwarden"), prog_name="postwarden-sidecar")
def main() -> None:
    """The part of Postwarden that answers a mail server's port."""


main.add_command(init_redirect)


@main.command(
    epilog="Examples: `postwarden-sidecar run --listen :10025 --upstream 127.0.0.1:25 --handoff proxy-v2`; "
    "`postwarden-sidecar run --listen :10025 --control postwarden.postwarden-system:9443 --token-file "
    "/var/run/secrets/postwarden/token --ca-file /etc/postwarden/ca.pem --state-dir /var/lib/postwarden`. Each option is also "
    "read from a variable: --drain-timeout from POSTWARDEN_DRAIN_TIMEOUT."
)
@click.option(
    "--listen", type=HostPort(), required=True, envvar="POSTWARDEN_LISTEN", help="Where clients connect."
)
@click.option(
    "--upstream",
    type=UpstreamTarget(),
    envvar="POSTWARDEN_UPSTREAM",
    help="The MTA. The flag overrides the policy; the variable is used where no policy names one.",
)
@click.option(
    "--handoff",
    type=HandoffName(),
    envvar="POSTWARDEN_HANDOFF",
    help="How clients are given to the MTA. Flag and variable as with --upstream.",
)
@click.option(
    "--control",
    metavar="HOST:PORT|unix:PATH",
    envvar="POSTWARDEN_CONTROL",
    help="The operator's control plane. Without it no rules come.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    envvar="POSTWARDEN_TOKEN_FILE",
    help="The pod's token for the operator; read anew for each connection.",
)
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path),
    envvar="POSTWARDEN_CA_FILE",
    help="PEM of the CA that signs the operator's certificate; read anew for each connection.",
)
@click.option(
    "--ca",
    metavar="PEM",
    envvar="POSTWARDEN_CA",
    help="Those certificates themselves, in place of --ca-file: injected pods have them inline.",
)
@click.option(
    "--control-keepalive",
    type=Duration(),
    default="30s",
    show_default=True,
    envvar="POSTWARDEN_CONTROL_KEEPALIVE",
    help="How long the operator may be silent before it is asked whether it is still there; at least 10s.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="POSTWARDEN_STATE_DIR",
    help="Keeps passes, the last known good rules, and the socket of `drain`. Without it nothing is kept.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    envvar="POSTWARDEN_WORKERS",
    help="Processes that answer clients [default: the container's CPU limit, rounded up; 1 without a limit].",
)
@click.option(
    "--log-format",
    type=click.Choice(list(_LOG_FORMATS), case_sensitive=False),
    envvar="POSTWARDEN_LOG_FORMAT",
    help="Overrides the policy's.",
)
@click.option(
    "--otlp-endpoint", metavar="URL", envvar="POSTWARDEN_OTLP_ENDPOINT", help="Where telemetry goes."
)
@click.option(
    "--metrics", type=HostPort(), envvar="POSTWARDEN_METRICS", help="Serves /metrics for Prometheus."
)
@click.option(
    "--health", type=HostPort(), envvar="POSTWARDEN_HEALTH", help="Serves /healthz, /readyz and /upstream."
)
@click.option(
    "--admin",
    type=LoopbackPort(),
    envvar="POSTWARDEN_ADMIN",
    help="Answers `kubectl postwarden tail|explain|diff`, read-only; on loopback only, as in 127.0.0.1:10028.",
)
@click.option(
    "--without-rules",
    type=click.Choice([choice.value for choice in WithoutRules], case_sensitive=False),
    default=WithoutRules.PASS.value,
    show_default=True,
    envvar="POSTWARDEN_WITHOUT_RULES",
    help="What clients get while no policy is known: handed over unscreened, or 421.",
)
@click.option(
    "--proxy-trusted",
    type=Networks(),
    default=(),
    envvar="POSTWARDEN_PROXY_TRUSTED",
    help="Load balancers whose PROXY header is believed, and required, while no policy is known.",
)
@click.option(
    "--drain-delay",
    type=Duration(),
    default="0s",
    show_default=True,
    envvar="POSTWARDEN_DRAIN_DELAY",
    help="How long all goes on as before once a drain began, for load balancers' lag.",
)
@click.option(
    "--drain-timeout",
    type=Duration(),
    default="20s",
    show_default=True,
    envvar="POSTWARDEN_DRAIN_TIMEOUT",
    help="How long sessions with the MTA may then still go on.",
)
@click.option(
    "--pod-ip",
    envvar="POSTWARDEN_POD_IP",
    help="The pod's address, to see that the MTA's port does not answer there (PROXY hand-offs).",
)
@click.option(
    "--redirected-port",
    "redirected_ports",
    type=PORT,
    multiple=True,
    envvar="POSTWARDEN_REDIRECT_PORT",
    help="The ports that init-redirect took clients away from: from outside, the MTA does not answer there.",
)
@click.option(
    "--node-ip",
    envvar="POSTWARDEN_NODE_IP",
    help="The node's address: clients that come from there have lost their own.",
)
@click.pass_context
def run(context: click.Context, /, **options: Any) -> None:
    """Answer clients until SIGTERM, which drains; a second one ends at once."""
    settings = _settings(context, options)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[PatientHandler(LogStream(STDERR))],
        force=True,
    )
    asyncio.run(_run(settings))


@main.command(
    epilog="Example: `postwarden-sidecar drain --state-dir /var/lib/postwarden` as the container's preStop."
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    envvar="POSTWARDEN_STATE_DIR",
    help="Of the sidecar that is to drain.",
)
def drain(state_dir: Path) -> None:
    """Let the running sidecar drain: no new sessions after the drain delay, open ones end; returns when
    done."""
    path = state_dir / ADMIN_SOCKET
    connection = _UnixConnection(path)
    try:
        connection.request("POST", "/drain")
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(f"no sidecar answers at {path}: {error}") from error
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise click.ClickException(f"the sidecar at {path} answered {response.status} {response.reason}")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket; the standard library's client, for a preStop should start at once."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


def _settings(context: click.Context, options: dict[str, Any]) -> SidecarSettings:
    chosen: dict[ParameterSource | None, dict[str, Any]] = {
        ParameterSource.COMMANDLINE: {},
        ParameterSource.ENVIRONMENT: {},
    }
    for name, field in (("upstream", "target"), ("handoff", "handoff")):
        source = context.get_parameter_source(name)
        if source in chosen:
            chosen[source][field] = options[name]
    log_format = options["log_format"]
    return SidecarSettings(
        listen=options["listen"],
        flags=UpstreamChoice(**chosen[ParameterSource.COMMANDLINE]),
        bootstrap=UpstreamChoice(**chosen[ParameterSource.ENVIRONMENT]),
        control=_control(
            options["control"], options["token_file"], _ca(options), options["control_keepalive"]
        ),
        state_dir=options["state_dir"],
        workers=options["workers"] or workers_by_cpu_limit(),
        log_format=None if log_format is None else _LOG_FORMATS[log_format],
        otlp_endpoint=options["otlp_endpoint"],
        metrics=options["metrics"],
        health=options["health"],
        admin=options["admin"],
        without_rules=WithoutRules(options["without_rules"]),
        proxy_trusted=options["proxy_trusted"],
        drain_delay=options["drain_delay"],
        drain_timeout=options["drain_timeout"],
        strict_relay=True,
        pod_ip=_address("--pod-ip", options["pod_ip"]),
        node_ip=_address("--node-ip", options["node_ip"]),
        redirected_ports=frozenset(options["redirected_ports"]),
    )


@dataclass(frozen=True, slots=True)
class _Ca:
    """file: None: given inline."""

    option: str
    pem: bytes
    file: Path | None = None


def _ca(options: dict[str, Any]) -> _Ca | None:
    inline, file = options["ca"], options["ca_file"]
    if inline is not None and file is not None:
        raise click.UsageError("--ca and --ca-file exclude each other")
    if inline is not None:
        ca = _Ca("--ca", inline.encode())
    elif file is not None:
        try:
            ca = _Ca(f"--ca-file {file}", file.read_bytes(), file)
        except OSError as error:
            raise click.UsageError(f"--ca-file {file} can't be read: {error.strerror}") from error
    else:
        return None
    if b"-----BEGIN CERTIFICATE-----" not in ca.pem:
        raise click.UsageError(f"{ca.option} holds no certificate in PEM")
    try:
        expiry(ca.pem)
    except TrustUnusable as error:
        raise click.UsageError(f"{ca.option} is of no use: {error}") from error
    return ca


def _control(
    address: str | None, token_file: Path | None, ca: _Ca | None, keepalive: float
) -> ControlTarget | None:
    if address is None:
        for option, value in (("--token-file", token_file), (ca.option if ca else "", ca)):
            if value is not None:
                raise click.UsageError(f"{option} is of no use without --control")
        return None
    if token_file is None:
        raise click.UsageError("--control needs --token-file")
    if keepalive < SHORTEST_KEEPALIVE:
        raise click.UsageError(
            f"--control-keepalive {keepalive:g}s: the operator sends away who pings more often than every "
            f"{SHORTEST_KEEPALIVE:.0f}s"
        )
    if ca is None and not address.startswith("unix:"):
        raise click.UsageError("--control needs --ca-file or --ca, unless it is a unix socket")
    return ControlTarget(
        address=address,
        token_file=token_file,
        ca_pem=None if ca is None else ca.pem,
        ca_file=None if ca is None else ca.file,
        keepalive=keepalive,
    )


def _address(option: str, text: str | None) -> str | None:
    if not text:
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise click.UsageError(f"{option} {text!r} is no IP address") from None


async def _run(settings: SidecarSettings) -> None:
    # Here and not above: gRPC and the telemetry SDK take half a second, which --help and drain need not wait
    # for.
    from postwarden_sidecar.supervisor.supervisor import StartFailed, Supervisor

    told, again = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (again if told.is_set() else told).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    supervisor = Supervisor(settings)
    try:
        await supervisor.start()
    except StartFailed as error:
        raise click.ClickException(str(error)) from error
    try:
        host, port = supervisor.listen_address
        _log.info("listening on %s port %d", host, port)
        await told.wait()
        draining = asyncio.create_task(supervisor.drain())
        at_once = asyncio.create_task(again.wait())
        await asyncio.wait([draining, at_once], return_when=asyncio.FIRST_COMPLETED)
        for task in (draining, at_once):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    finally:
        await supervisor.stop()
