"""The files behind `-f`: which they are, whether they changed, and all that is in them.

Contract: `read` gives all objects or raises Unreadable with everything that is wrong: half of an edit is
never taken. Polled, not watched by inotify: editors replace files, a ConfigMap volume swaps a link, some file
systems tell nothing, and a few stats five times a second cost nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from postwarden_operator.files.documents import (
    CONFIG_MAP,
    POLICY,
    SECRET,
    Document,
    config_map_content,
    read_documents,
)
from postwarden_operator.files.secret_fields import secret_of
from postwarden_operator.reconcile.world import ConfigMap, Pod, Secret, World

SUFFIXES = (".yaml", ".yml", ".json")
"""Of the files of a folder, those that kubectl takes too."""

SIZE_LIMIT = 64 * 1024 * 1024
"""Bytes of a file: a list of a million networks has 20 MB."""

Signature = tuple[tuple[str, int, int, int, int], ...]


class Unreadable(Exception):
    """`errors`: a line each, never empty."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(self.errors))


@dataclass(frozen=True)
class Objects:
    """policies: at least one, by namespace and name."""

    policies: tuple[Document, ...]
    config_maps: dict[tuple[str, str], ConfigMap]
    secrets: dict[tuple[str, str], Secret]

    def world(self, pod: Pod) -> World:
        """With this one pod."""
        return World(
            tuple(document.body for document in self.policies), (pod,), self.config_maps, self.secrets
        )


def signature(paths: Sequence[Path]) -> Signature:
    """Another one whenever a file is written, replaced, added or taken away."""
    return tuple(_stat(path) for path in _files(paths))


def _stat(path: Path) -> tuple[str, int, int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return str(path), 0, 0, 0, 0
    return str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev


def _files(paths: Sequence[Path]) -> list[Path]:
    """A folder stands for its YAML files, not for its folders.

    Hidden ones (a ConfigMap volume's `..data`) do not count.
    """
    files = []
    for path in paths:
        try:
            inside = sorted(path.iterdir()) if path.is_dir() else [path]
        except OSError:
            inside = [path]
        files += [
            file
            for file in inside
            if file == path
            or (file.suffix in SUFFIXES and not file.name.startswith(".") and not file.is_dir())
        ]
    return files


def read(paths: Sequence[Path], salt: bytes) -> Objects:
    """salt: of the Secrets' versions, kept for a whole run. Raises Unreadable."""
    documents: list[Document] = []
    errors: list[str] = []
    files = _files(paths)
    for path in paths:
        if path.is_dir() and not any(file.parent == path for file in files):
            errors.append(f"{path}: no {' or '.join(SUFFIXES)} file in this folder")
    for file in dict.fromkeys(files):
        try:
            if file.stat().st_size > SIZE_LIMIT:
                errors.append(f"{file}: more than {SIZE_LIMIT // 1024 // 1024} MiB")
                continue
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            errors.append(f"{file}: can't be read: {error.strerror}")
        except UnicodeDecodeError as error:
            errors.append(f"{file}: is not YAML: byte {error.start} is not UTF-8")
        else:
            found, wrong = read_documents(file, text)
            documents += found
            errors += wrong
    errors += _duplicates(documents)
    if not errors and not any(document.kind == POLICY for document in documents):
        errors.append(f"{', '.join(map(str, paths))}: no {POLICY} in there")
    if errors:
        raise Unreadable(errors)
    policies = [document for document in documents if document.kind == POLICY]
    return Objects(
        tuple(sorted(policies, key=lambda document: (document.namespace, document.name))),
        {
            (document.namespace, document.name): config_map_content(document)
            for document in documents
            if document.kind == CONFIG_MAP
        },
        {
            (document.namespace, document.name): secret_of(document.body, salt)
            for document in documents
            if document.kind == SECRET
        },
    )


def _duplicates(documents: list[Document]) -> list[str]:
    seen: dict[tuple[str, str, str], Document] = {}
    errors = []
    for document in documents:
        key = (document.kind, document.namespace, document.name)
        if document.name and key in seen:
            errors.append(f"{document.path}: {document}: is in {seen[key].path} too; remove one")
        seen.setdefault(key, document)
    return errors
