"""`postwarden-operator`: what the operator's image starts.

Contract: settings come from flags, or from POSTWARDEN_* variables (POSTWARDEN_LISTEN for `--listen`).
Exit 2 for settings that can't be used, 1 when a part gave up while running; SIGTERM and SIGINT end it with 0.
Logs go to stderr.
"""

import asyncio
import logging
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from postwarden_operator.kube.operator import OperatorSettings
    from postwarden_operator.kube.replicas import ReplicaSettings

UNUSABLE = 2
"""Exit status, as click's own for bad arguments."""

EXAMPLES = """\b
Examples:
  In a pod, with the certificate of a Secret:
    postwarden-operator run --tls-cert /tls/tls.crt --tls-key /tls/tls.key
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
    "--self-signed-dir",
    type=_PATH,
    show_envvar=True,
    help="Instead: a folder where ca.crt, tls.crt and tls.key are made if they are missing.",
)
@click.option(
    "--self-signed-name",
    "self_signed_names",
    multiple=True,
    default=("postwarden-operator",),
    show_default=True,
    show_envvar=True,
    metavar="NAME",
    help="DNS name or address that sidecars connect to. May be repeated.",
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
    help="Who signs the replicas' certificates, PEM. [ca.crt beside --tls-cert]",
)
@click.option(
    "--health",
    show_envvar=True,
    metavar="HOST:PORT",
    help="Answer kubelet's probes there: /healthz (liveness) and /readyz (readiness), over plain HTTP.",
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
    self_signed_dir: Path | None,
    self_signed_names: tuple[str, ...],
    lease: str | None,
    lease_duration: int,
    peers: tuple[str, ...],
    peers_token: Path | None,
    peers_ca: Path | None,
    health: str | None,
    log_level: str,
) -> None:
    """Watch the cluster and serve its sidecars, until SIGTERM.

    In a pod its ServiceAccount is used, else the kubeconfig ($KUBECONFIG).
    """
    # Imported here: `--help` must not wait for kopf and the Kubernetes client.
    from postwarden_operator.controlplane.server import ListenFailed
    from postwarden_operator.controlplane.tls import CertificateFiles, CertificateUnusable
    from postwarden_operator.kube.api import NoCluster
    from postwarden_operator.kube.health import HealthUnavailable
    from postwarden_operator.kube.operator import OperatorSettings
    from postwarden_operator.kube.self_signed import ensure_certificate

    logging.basicConfig(
        level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if log_level != "debug":
        # kopf tells of every event that it has seen, and of every attempt while the API server is away: for hours
        # the same lines. What they mean for us the follower says, once.
        logging.getLogger("kopf").setLevel(logging.CRITICAL)
    if self_signed_dir is not None:
        if tls_cert is not None or tls_key is not None:
            raise click.UsageError("--self-signed-dir excludes --tls-cert and --tls-key")
        try:
            tls_cert, tls_key = ensure_certificate(self_signed_dir, self_signed_names)
        except (OSError, ValueError) as error:
            _fail(f"--self-signed-dir {self_signed_dir}: {error}")
    if tls_cert is None or tls_key is None:
        raise click.UsageError("give --tls-cert and --tls-key, or --self-signed-dir")
    probes = None if health is None else _host_port("--health", health)
    _allow_descriptors()
    peers_ca = peers_ca or tls_cert.with_name("ca.crt")
    replicas = _replicas(lease, lease_duration, peers, peers_token, peers_ca)
    try:
        settings = OperatorSettings(listen, CertificateFiles(tls_cert, tls_key), probes, replicas)
        asyncio.run(_serve(settings))
    except (CertificateUnusable, HealthUnavailable, ListenFailed, NoCluster) as error:
        _fail(str(error))


def _allow_descriptors() -> None:
    """As many as we may have: each sidecar takes one, and the soft limit is often 1,024. gRPC would leave the
    next thousand waiting without a word (measured)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _replicas(
    lease: str | None, duration: int, peers: tuple[str, ...], token: Path | None, ca: Path
) -> "ReplicaSettings | None":
    """Raises click.UsageError."""
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
        if not file.is_file():
            raise click.UsageError(f"{what}: there is no file {file}")
    addresses = tuple(_host_port("--peers", each) for each in peers)
    return ReplicaSettings(namespace, name, duration, Peers(addresses, PeerCredentials(token, ca.read_bytes)))


def _host_port(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise click.UsageError(f"{option} {text}: give HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


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
