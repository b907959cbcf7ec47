"""`postwarden tail`: verdicts of a sidecar on this machine, as `postwarden up --admin` or `postwarden-sidecar run --admin` shows them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import click
from postwarden_sidecar.net.addresses import host_port
from postwarden_sidecar.option_types import LoopbackPort

from postwarden_cli.admin_client import PORT, Opener, Query, Refused, Unanswered, on_this_machine
from postwarden_cli.exit_codes import INTERRUPTED, UNANSWERED
from postwarden_cli.tail_followers import Followers
from postwarden_cli.tail_options import Screen, ended_by_the_reader, filters, query_of


@click.command(
    epilog="Examples: postwarden tail; postwarden tail 127.0.0.1:10029 --verdict rejected,dropped --address 203.0.113.0/24"
)
@click.argument("where", type=LoopbackPort(), default=f"127.0.0.1:{PORT}", metavar="[[HOST]:PORT]")
@filters
def command(
    where: tuple[str, int],
    verdict: tuple[str, ...],
    address: tuple[str, ...],
    test: tuple[str, ...],
    as_json: bool,
) -> None:
    """Watch the verdicts of a sidecar whose admin endpoint is at [HOST]:PORT (127.0.0.1:10028 if left out), with the reason for each:
    lines on a terminal, JSON lines when piped. A sidecar that is started again is joined again.
    """
    query = query_of(verdict=verdict, address=address, test=test)
    try:
        asyncio.run(_run(where, query, Screen(as_json=as_json, pods=False)))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        ended_by_the_reader()
    except (Unanswered, Refused) as problem:
        click.echo(f"postwarden tail: {problem}", err=True)
        sys.exit(UNANSWERED)


async def _run(where: tuple[str, int], query: Query, screen: Screen) -> None:
    async def targets() -> AsyncIterator[Mapping[str, Opener]]:
        yield {host_port(*where): on_this_machine(*where)}

    def show(name: str, line: Mapping[str, Any]) -> None:
        screen.show(name, {}, line)

    def complain(name: str, sentence: str) -> None:
        screen.note(f"{name}: {sentence or 'following'}", problem=bool(sentence))

    await Followers(query, show, complain).run(targets())
