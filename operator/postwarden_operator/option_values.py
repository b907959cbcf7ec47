"""Values of the command line's options. Each refuses what can't be used with one sentence (click.UsageError, exit 2)."""

import click


def host_port(option: str, text: str) -> tuple[str, int]:
    """`HOST:PORT`; an IPv6 address in brackets."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise click.UsageError(f"{option} {text}: give HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)
