"""`kubectl postwarden`: a plugin of kubectl, found by the name of its program, `kubectl-postwarden`.

Contract: reads only, with the rights of the user's own kubeconfig. Each subcommand is in a file of its own, imported only when called.
"""

from __future__ import annotations

from importlib.metadata import version

import click

from postwarden_cli.lazy_group import LazyGroup

# name -> (module, one line for the list of commands)
COMMANDS = {
    "status": (
        "postwarden_cli.kubectl_status",
        "Show policies: their sidecars, and what is wrong with them.",
    ),
    "tail": ("postwarden_cli.kubectl_tail", "Watch verdicts as they come, with the reason for each."),
    "explain": (
        "postwarden_cli.kubectl_explain",
        "Ask sidecars what becomes of an address, by the rules in force there.",
    ),
    "diff": (
        "postwarden_cli.kubectl_diff",
        "Compare the rules in force in sidecars with what the policy says now.",
    ),
}


@click.group(
    cls=LazyGroup,
    modules=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Examples: kubectl postwarden status -A; kubectl postwarden tail -l app=postfix; "
    "kubectl postwarden COMMAND --help has more.",
)
@click.version_option(version("postwarden"), prog_name="kubectl-postwarden")
def main() -> None:
    """Ask a cluster's Postwarden. Uses the current context of your kubeconfig."""
