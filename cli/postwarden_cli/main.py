"""The command `postwarden`: a group of subcommands, each in a file of its own.

Subcommands are imported only when called, so that `postwarden --help` answers at once.
"""

from __future__ import annotations

from importlib.metadata import version

import click

from postwarden_cli.lazy_group import LazyGroup

# name -> (module, one line for the list of commands)
COMMANDS = {
    "up": ("postwarden_cli.up", "Screen a mail server on this machine: the whole system without a cluster."),
    "demo": (
        "postwarden_cli.demo",
        "See it work: sample clients of every kind, with a live table of verdicts.",
    ),
    "tail": ("postwarden_cli.tail", "Watch the verdicts of a sidecar on this machine."),
    "explain": (
        "postwarden_cli.explain",
        "Say what a policy does to a client's address, and which line decides.",
    ),
    "check": ("postwarden_cli.check", "Check policies and their lists, without a cluster."),
    "schema": ("postwarden_cli.schema", "Print the CRD, or the JSON schema that editors use."),
}


@click.group(
    cls=LazyGroup,
    modules=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Examples: `postwarden demo`; `postwarden up -f policy.yaml --listen 127.0.0.1:2525 --upstream 127.0.0.1:25 "
    "--handoff proxy-v2`; `postwarden COMMAND --help` has more.",
)
@click.version_option(version("postwarden"), prog_name="postwarden")
def main() -> None:
    """Postwarden turns spam zombies away before they cost your mail server anything."""
