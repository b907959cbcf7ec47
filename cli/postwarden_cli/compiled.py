"""Policies from files as the rules that a sidecar would decide by: the operator's compiler, then the sidecar's decoder."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from postwarden_operator.files.examine import Examined, examine
from postwarden_operator.files.operator import NothingUsable
from postwarden_sidecar.controlclient.decode import decode
from postwarden_sidecar.rules.settings import Rules

PATHS = click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    required=True,
    metavar="PATH",
    type=click.Path(exists=True, path_type=Path),
    help="YAML with policies and ConfigMaps: a file, or a folder of them. May be repeated.",
)


def examined(paths: tuple[Path, ...]) -> tuple[Examined, ...]:
    """All policies of the files, the one in force first. Exits with 1 where the files can't be read."""
    try:
        return examine(paths)
    except NothingUsable as unusable:
        for error in unusable.errors:
            click.echo(error, err=True)
        sys.exit(1)


def rules_of(policy: Examined) -> Rules:
    """Raises Undecodable if operator and sidecar disagree, which would be our own fault."""
    assert policy.snapshot is not None
    return decode(policy.snapshot, policy.blobs)
