"""What would come of files, without serving them: for `postwarden check` and `explain`.

Contract: reads and compiles once, as FilesOperator does at its start; every policy of the files is in the result, the one that would be in
force first.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_operator.files.events import NothingUsable
from postwarden_operator.files.folder import Folder, Unreadable
from postwarden_operator.files.selection import first_by_name
from postwarden_operator.reconcile.compilation import Compiler
from postwarden_operator.reconcile.plan import plan
from postwarden_operator.reconcile.world import Pod


@dataclass(frozen=True)
class Examined:
    """snapshot: None where it does not compile; errors then says why, a line each with file, document and field path."""

    namespace: str
    name: str
    in_force: bool
    snapshot: pb.Snapshot | None = field(repr=False)
    blobs: Mapping[str, bytes]
    errors: tuple[str, ...]


def examine(paths: Sequence[Path]) -> tuple[Examined, ...]:
    """Raises NothingUsable where the files can't be read or hold no policy."""
    try:
        objects = Folder(paths, secrets.token_bytes(32)).read()
    except Unreadable as error:
        raise NothingUsable(error.errors) from error
    pod = Pod(uid="pod", namespace="default", name="pod", labels={}, screened=True)
    documents = {(document.namespace, document.name): document for document in objects.policies}
    examined = []
    for outcome in plan(objects.world(pod), Compiler(strict=True), first_by_name).outcomes:
        managed = outcome.compilation.managed
        document = documents[outcome.namespace, outcome.name]
        examined.append(
            Examined(
                outcome.namespace,
                outcome.name,
                bool(outcome.screened),
                None if managed is None else managed.snapshot,
                {} if managed is None else managed.blobs,
                tuple(document.located(error) for error in outcome.compilation.errors),
            )
        )
    return tuple(sorted(examined, key=lambda each: not each.in_force))
