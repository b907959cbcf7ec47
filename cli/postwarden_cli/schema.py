"""`postwarden schema`: what a ScreeningPolicy may look like, for kubectl and for editors."""

from __future__ import annotations

import click
from postwarden_operator.policy.generate import generated_files

# Endings of the generated files' paths.
FILES = {"json": ".schema.json", "crd": ".yaml"}


@click.command(
    epilog="Examples: postwarden schema --format crd | kubectl apply -f -; postwarden schema > policy.schema.json"
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FILES)),
    default="json",
    show_default=True,
    help="json: a JSON schema for editors; crd: the CustomResourceDefinition.",
)
def command(form: str) -> None:
    """Print the JSON schema that editors use, or the CRD."""
    click.echo(render(form))


def render(form: str) -> str:
    """The text."""
    return next(text for path, text in generated_files().items() if path.endswith(FILES[form])).rstrip("\n")
