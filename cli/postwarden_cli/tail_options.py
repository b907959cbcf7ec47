"""What both `tail` commands have: filters, and where verdicts are shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from postwarden_sidecar.supervisor.tail import BadQuery, Filter
from rich.console import Console

from postwarden_cli.verdict_lines import json_line, safe, text_line

_Command = TypeVar("_Command", bound=Callable[..., Any])


def filters(command: _Command) -> _Command:
    """Options that give `verdict`, `address`, `test` and `as_json`."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="JSON lines on a terminal, too."),
        click.option(
            "--test",
            multiple=True,
            metavar="TEST[,…]",
            help="Only what this test decided, or what failed it: access, pregreet, dnsbl, pipelining, non_smtp_command, bare_newline.",
        ),
        click.option(
            "--address",
            multiple=True,
            metavar="ADDRESS|NETWORK[,…]",
            help="Only clients from there, as in 192.0.2.1 or 2001:db8::/32.",
        ),
        click.option(
            "--verdict", multiple=True, metavar="VERDICT[,…]", help="Only these, as in rejected,dropped."
        ),
    ):
        command = option(command)
    return command


def query_of(**given: Sequence[str]) -> dict[str, list[str]]:
    """What is asked of a sidecar; each option may be repeated, or have several values. Raises click.UsageError."""
    query = {
        name: found
        for name, values in given.items()
        if (found := [each.strip() for value in values for each in value.split(",") if each.strip()])
    }
    try:
        Filter.of(query)
    except BadQuery as problem:
        raise click.UsageError(f"--{problem}") from problem
    return query


class Screen:
    """Verdicts to stdout: lines for a person on a terminal, else JSON lines; what does not work to stderr."""

    def __init__(self, *, as_json: bool, pods: bool) -> None:
        """pods: each line tells its pod."""
        self._json = as_json or not sys.stdout.isatty()
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._notes = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._pods = pods
        self._width = 0

    def show(self, pod: str, source: Mapping[str, str], line: Mapping[str, Any]) -> None:
        """source: see json_line."""
        self._width = max(self._width, min(len(pod), 40)) if self._pods else 0
        shown = (
            json_line(line, source) if self._json else text_line(line, pod, self._width, colour=self._colour)
        )
        sys.stdout.write(shown + "\n")
        sys.stdout.flush()

    def note(self, text: str, *, problem: bool = True) -> None:
        """A sentence beside the verdicts."""
        self._notes.print(safe(text), style="yellow" if problem else "dim")


def ended_by_the_reader() -> None:
    """stdout is closed (`| head`): end as a program does that knows nothing of pipes."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    sys.exit(141)
