"""The command `postwarden`: a group of subcommands, each in a file of its own.

Subcommands are imported only when called, so that `postwarden --help` answers at once.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version

import click

# name -> (module, one line for the list of commands)
COMMANDS = {
    "up": ("postwarden_cli.up", "Screen a mail server on this machine: the whole system without a cluster."),
    "demo": (
        "postwarden_cli.demo",
        "See it work: sample clients of every kind, with a live table of verdicts.",
    ),
    "explain": (
        "postwarden_cli.explain",
        "Say what a policy does to a client's address, and which line decides.",
    ),
    "check": ("postwarden_cli.check", "Check policies and their lists, without a cluster."),
    "schema": ("postwarden_cli.schema", "Print the CRD, or the JSON schema that editors use."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only to run it or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command's object, named `command` in its module; None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Examples: `postwarden demo`; `postwarden up -f policy.yaml --listen 127.0.0.1:2525 --upstream 127.0.0.1:25 "
    "--handoff proxy-v2`; `postwarden COMMAND --help` has more.",
)
@click.version_option(version("postwarden"), prog_name="postwarden")
def main() -> None:
    """Postwarden turns spam zombies away before they cost your mail server anything."""
