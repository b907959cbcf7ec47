"""`postwarden-sidecar init-redirect`: what the init container `postwarden-redirect` runs, once, before the sidecar and the MTA.

Contract: exit status 0 once the kernel has the rules; 1 where it did not take them, 2 for options that can't be used, each with one
sentence. That the rules work, kubelet sees: its probe of the proof port reaches the sidecar's health port by the same rule, or fails.
"""

from pathlib import Path

import click

from postwarden_sidecar.net.addresses import is_loopback
from postwarden_sidecar.option_types import HostPort
from postwarden_sidecar.redirect.nft import RulesRefused, write
from postwarden_sidecar.redirect.ruleset import described, ruleset

PORT = click.IntRange(1, 65535)

_IPV6 = Path("/proc/net/if_inet6")
"""Missing where the kernel has no IPv6 (not built in, or ipv6.disable=1)."""


@click.command(
    "init-redirect",
    epilog="Examples: `postwarden-sidecar init-redirect --port 25 --listen :10025 --health :10026 --proof-port 10029` in an init "
    "container that runs as root with NET_ADMIN alone, and for the sidecar `startupProbe: {httpGet: {path: /readyz, port: 10029}}`; "
    "`postwarden-sidecar init-redirect --port 25 --listen :10025 --dry-run` shows the rules.",
)
@click.option(
    "--port",
    "ports",
    type=PORT,
    multiple=True,
    required=True,
    envvar="POSTWARDEN_REDIRECT_PORT",
    help="The MTA's port that clients come to; again for another one (variable: separated by spaces). Not those for submission.",
)
@click.option(
    "--listen",
    type=HostPort(),
    required=True,
    envvar="POSTWARDEN_LISTEN",
    help="Where the sidecar listens, on all addresses: clients are taken there.",
)
@click.option(
    "--health",
    type=HostPort(),
    envvar="POSTWARDEN_HEALTH",
    help="The sidecar's health endpoint, for --proof-port.",
)
@click.option(
    "--proof-port",
    type=PORT,
    envvar="POSTWARDEN_REDIRECT_PROOF_PORT",
    help="Taken to the health endpoint by the same rule; nothing listens there. A startup probe of it succeeds only where the rule works.",
)
@click.option("--dry-run", is_flag=True, help="Print the rules and write nothing.")
def init_redirect(
    ports: tuple[int, ...],
    listen: tuple[str, int],
    health: tuple[str, int] | None,
    proof_port: int | None,
    dry_run: bool,
) -> None:
    """Have the kernel take the MTA's clients to the sidecar (nftables), in this pod; again changes nothing."""
    ipv6 = _IPV6.exists()
    text = ruleset(_redirected(ports, listen, health, proof_port), ipv6=ipv6)
    if dry_run:
        click.echo(text, nl=False)
        return
    try:
        write(text)
    except RulesRefused as refused:
        raise click.ClickException(f"clients can't be redirected: {refused}") from refused
    click.echo(described(set(ports), listen[1], ipv6=ipv6))


def _redirected(
    ports: tuple[int, ...], listen: tuple[str, int], health: tuple[str, int] | None, proof_port: int | None
) -> dict[int, int]:
    """Raises UsageError."""
    if proof_port is not None and health is None:
        raise click.UsageError("--proof-port needs --health, where it leads to")
    targets = {"--listen": listen} | ({"--health": health} if health is not None else {})
    for option, (host, port) in targets.items():
        if option == "--health" and proof_port is None:
            continue
        if is_loopback(host):
            raise click.UsageError(
                f"{option} is on loopback, where nobody from outside is taken to: listen on all addresses, as in :{port}"
            )
        if not port:
            raise click.UsageError(f"{option} has the port 0: name the one that the sidecar listens on")
    redirected = dict.fromkeys(ports, listen[1])
    if proof_port is not None and health is not None:
        if proof_port in redirected:
            raise click.UsageError(
                f"--proof-port {proof_port} is the MTA's: name a port on which nothing listens"
            )
        redirected[proof_port] = health[1]
    for asked in redirected:
        for option, (_, port) in targets.items():
            if asked == port:
                raise click.UsageError(
                    f"port {asked} is the sidecar's own ({option}): it can't be redirected"
                )
    return redirected
