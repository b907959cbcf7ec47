"""`postwarden-operator`: what the operator's image starts.

Contract: settings come from flags, or from POSTWARDEN_* variables (POSTWARDEN_LISTEN for `--listen`).
Exit 2 for settings that can't be used, 1 when a part gave up while running; SIGTERM and SIGINT end it with 0.
Logs go to stderr.
"""

import asyncio
import logging
import re
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from postwarden_operator.injection_options import injection_options, webhook_settings
from postwarden_operator.option_values import host_port

if TYPE_CHECKING:
    from postwarden_operator.kube.authority import Lifetimes
    from postwarden_operator.kube.operator import OperatorSettings
    from postwarden_operator.kube.replicas import ReplicaSettings

UNUSABLE = 2
"""Exit status, as click's own for bad arguments."""

EXAMPLES = """\b
Examples:
  In a pod, as a CA of its own, kept in a Secret:
    postwarden-operator run --ca-secret postwarden-system/postwarden-ca --server-name postwarden.postwarden-system.svc
  In a pod, with the certificate of a Secret, cert-manager's for instance:
    postwarden-operator run --tls-cert /tls/tls.crt --tls-key /tls/tls.key --tls-ca /tls/ca.crt
  On your machine, with the cluster of your kubeconfig; sidecars trust ./tls/ca.crt:
    postwarden-operator run --listen 127.0.0.1:8443 --self-signed-dir ./tls --self-signed-name localhost
"""

_PATH = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="postwarden")
def main() -> None:
    """The operator of Postwarden: compiles ScreeningPolicies and pushes them to the sidecars."""


@main.command(epilog=EXAMPLES, context_settings={"auto_envvar_prefix": "POSTWARDEN"})
@click.option(
    "--listen",
    default="0.0.0.0:8443",
    show_default=True,
    show_envvar=True,
    metavar="HOST:PORT",
    help="Where sidecars connect.",
)
@click.option(
    "--tls-cert",
    type=_PATH,
    show_envvar=True,
    help="The server's certificate chain, PEM. Read anew when it changes.",
)
@click.option("--tls-key", type=_PATH, show_envvar=True, help="Its key, PEM.")
@click.option(
    "--tls-ca",
    type=_PATH,
    show_envvar=True,
    help="The CA's certificates, PEM, to tell sidecars of. Read anew when it changes.",
)
@click.option(
    "--ca-secret",
    show_envvar=True,
    metavar="NAMESPACE/NAME",
    help="Instead: be a CA, kept in this Secret, which is made if it is missing. All rotates by itself.",
)
@click.option(
    "--self-signed-dir",
    type=_PATH,
    show_envvar=True,
    help="Instead: a folder where ca.crt, tls.crt and tls.key are made if they are missing.",
)
@click.option(
    "--server-name",
    "--self-signed-name",
    "server_names",
    multiple=True,
    default=("postwarden-operator",),
    show_default=True,
    show_envvar=True,
    metavar="NAME",
    help="DNS name or address that sidecars connect to, with --ca-secret and --self-signed-dir. May be repeated.",
)
@click.option(
    "--ca-lifetime",
    default="8760h",
    show_default=True,
    show_envvar=True,
    metavar="DURATION",
    help="Of a CA in --ca-secret; the next one is published when two thirds are over.",
)
@click.option(
    "--ca-notice",
    default="168h",
    show_default=True,
    show_envvar=True,
    metavar="DURATION",
    help="How long a new CA is published before it signs: a sidecar that was not connected meanwhile would not know it.",
)
@click.option(
    "--server-lifetime",
    default="168h",
    show_default=True,
    show_envvar=True,
    metavar="DURATION",
    help="Of a server certificate by --ca-secret.",
)
@click.option(
    "--lease",
    show_envvar=True,
    metavar="NAMESPACE/NAME",
    help="Several replicas agree by this Lease on who writes status. Without it this one is the only one.",
)
@click.option(
    "--lease-duration",
    type=click.IntRange(min=3),
    default=15,
    show_default=True,
    show_envvar=True,
    metavar="SECONDS",
    help="After so long without a renewal another replica takes the Lease over.",
)
@click.option(
    "--peers",
    multiple=True,
    show_envvar=True,
    metavar="HOST:PORT",
    help="The other replicas: a name that resolves to all of them, as a headless Service's, and that their certificates are for. May be "
    "repeated. Needs --lease and --peers-token.",
)
@click.option(
    "--peers-token",
    type=_PATH,
    show_envvar=True,
    help="This replica's token, of the audience peers.postwarden.dev. Read anew for each connection.",
)
@click.option(
    "--peers-ca",
    type=_PATH,
    show_envvar=True,
    help="Who signs the replicas' certificates, PEM. [what sidecars are told to trust; else ca.crt beside --tls-cert]",
)
@click.option(
    "--health",
    show_envvar=True,
    metavar="HOST:PORT",
    help="Answer kubelet's probes there: /healthz (liveness) and /readyz (readiness), over plain HTTP.",
)
@injection_options
@click.option(
    "--otlp-endpoint",
    show_envvar=True,
    metavar="URL",
    help="Where traces of policy changes and metrics go by OTLP: http://HOST:4317, or :4318 for OTLP/HTTP.",
)
@click.option(
    "--metrics",
    show_envvar=True,
    metavar="HOST:PORT",
    help="Serve Prometheus there, at /metrics.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    show_envvar=True,
)
def run(
    listen: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    ca_secret: str | None,
    self_signed_dir: Path | None,
    server_names: tuple[str, ...],
    ca_lifetime: str,
    ca_notice: str,
    server_lifetime: str,
    lease: str | None,
    lease_duration: int,
    peers: tuple[str, ...],
    peers_token: Path | None,
    peers_ca: Path | None,
    health: str | None,
    otlp_endpoint: str | None,
    metrics: str | None,
    log_level: str,
    **injection: str | None,
) -> None:
    """Watch the cluster and serve its sidecars, until SIGTERM.

    In a pod its ServiceAccount is used, else the kubeconfig ($KUBECONFIG).
    """
    # Imported here: `--help` must not wait for kopf and the Kubernetes client.
    from postwarden_operator.controlplane.server import ListenFailed
    from postwarden_operator.controlplane.tls import CertificateFiles, CertificateUnusable
    from postwarden_operator.kube.api import NoCluster
    from postwarden_operator.kube.authority import AuthorityUnusable
    from postwarden_operator.kube.authority_keeper import OwnAuthority
    from postwarden_operator.kube.health import HealthUnavailable
    from postwarden_operator.kube.operator import OperatorSettings
    from postwarden_operator.kube.self_signed import ensure_certificate
    from postwarden_operator.kube.webhook import WebhookUnavailable
    from postwarden_operator.telemetry.service import MetricsUnservable, TelemetrySettings

    logging.basicConfig(
        level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if log_level != "debug":
        # kopf tells of every event that it has seen, and of every attempt while the API server is away: for hours
        # the same lines. What they mean for us the follower says, once.
        logging.getLogger("kopf").setLevel(logging.CRITICAL)
    probes = None if health is None else host_port("--health", health)
    telemetry = TelemetrySettings(otlp_endpoint, None if metrics is None else host_port("--metrics", metrics))
    files = [each for each in (tls_cert, tls_key, tls_ca) if each is not None]
    if sum(each is not None for each in (self_signed_dir, ca_secret, files or None)) > 1:
        raise click.UsageError(
            "--ca-secret, --self-signed-dir, and --tls-cert with --tls-key exclude each other"
        )
    _allow_descriptors()
    identity: CertificateFiles | OwnAuthority
    try:
        if ca_secret is not None:
            lifetimes = _lifetimes(ca_lifetime, ca_notice, server_lifetime)
            identity = OwnAuthority(*_secret(ca_secret), server_names, lifetimes)
        else:
            if self_signed_dir is not None:
                try:
                    tls_cert, tls_key = ensure_certificate(self_signed_dir, server_names)
                except (OSError, ValueError) as error:
                    _fail(f"--self-signed-dir {self_signed_dir}: {error}")
                tls_ca = self_signed_dir / "ca.crt"
            if tls_cert is None or tls_key is None:
                raise click.UsageError("give --ca-secret, or --tls-cert and --tls-key, or --self-signed-dir")
            identity = CertificateFiles(tls_cert, tls_key, tls_ca)
            if tls_ca is None:
                peers_ca = peers_ca or tls_cert.with_name("ca.crt")
        replicas = _replicas(lease, lease_duration, peers, peers_token, peers_ca)
        webhook = webhook_settings(**injection)
        if webhook is not None and isinstance(identity, CertificateFiles) and tls_ca is None:
            raise click.UsageError(
                "--webhook needs the CA that injected sidecars are to trust: give --tls-ca"
            )
        asyncio.run(_serve(OperatorSettings(listen, identity, probes, replicas, telemetry, webhook)))
    except (
        CertificateUnusable,
        AuthorityUnusable,
        HealthUnavailable,
        ListenFailed,
        MetricsUnservable,
        NoCluster,
        WebhookUnavailable,
    ) as error:
        _fail(str(error))


def _secret(text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise click.UsageError(f"--ca-secret {text!r}: write NAMESPACE/NAME")
    return namespace, name


def _lifetimes(authority: str, notice: str, server: str) -> "Lifetimes":
    from postwarden_operator.kube.authority import Lifetimes, LifetimesUnusable
    from postwarden_operator.policy.duration import DURATION_PATTERN, milliseconds

    seconds = {}
    named = {"--ca-lifetime": authority, "--ca-notice": notice, "--server-lifetime": server}
    for option, text in named.items():
        if not re.fullmatch(DURATION_PATTERN, text) or not milliseconds(text):
            raise click.UsageError(f"{option} {text!r} is no duration; write one like 168h or 1h30m")
        seconds[option] = milliseconds(text) / 1000
    try:
        return Lifetimes(*seconds.values())
    except LifetimesUnusable as error:
        raise click.UsageError(f"--ca-lifetime, --ca-notice and --server-lifetime: {error}") from error


def _allow_descriptors() -> None:
    """As many as we may have: each sidecar takes one, and the soft limit is often 1,024. gRPC would leave the
    next thousand waiting without a word (measured)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _replicas(
    lease: str | None, duration: int, peers: tuple[str, ...], token: Path | None, ca: Path | None
) -> "ReplicaSettings | None":
    """ca None: the replicas trust what sidecars are told to trust. Raises click.UsageError."""
    from postwarden_operator.controlplane.peers_client import PeerCredentials
    from postwarden_operator.kube.replicas import Peers, ReplicaSettings

    if lease is None:
        if peers:
            raise click.UsageError("--peers needs --lease: one of the replicas writes status")
        return None
    namespace, slash, name = lease.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise click.UsageError(f"--lease {lease}: give NAMESPACE/NAME")
    if not peers:
        return ReplicaSettings(namespace, name, duration)
    if token is None:
        raise click.UsageError("--peers needs --peers-token")
    for what, file in (("--peers-token", token), ("--peers-ca", ca)):
        if file is not None and not file.is_file():
            raise click.UsageError(f"{what}: there is no file {file}")
    addresses = tuple(host_port("--peers", each) for each in peers)
    trust = None if ca is None else ca.read_bytes
    return ReplicaSettings(namespace, name, duration, Peers(addresses, PeerCredentials(token, trust)))


def _fail(message: str) -> NoReturn:
    click.echo(f"postwarden-operator run: {message}", err=True)
    sys.exit(UNUSABLE)


async def _serve(settings: "OperatorSettings") -> None:
    from postwarden_operator.kube.api import ClusterApi
    from postwarden_operator.kube.operator import KubeOperator

    api = await ClusterApi.connect()
    try:
        operator = KubeOperator(settings, api)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, operator.stop)
        await operator.run()
    finally:
        await api.close()
