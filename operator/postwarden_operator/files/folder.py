"""The files behind `-f`: which they are, whether they changed, and all that is in them.

Contract: `Folder.read` gives all objects or raises Unreadable with everything that is wrong: half of an edit is
never taken. Polled, not watched by inotify: editors replace files, a ConfigMap volume swaps a link, some file
systems tell nothing, and a few stats five times a second cost nothing.
"""

import hashlib
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


class Folder:
    """What these paths stand for, again and again: a file that did not change is not parsed again, for YAML takes some 0.6 s a MiB."""

    def __init__(self, paths: Sequence[Path], salt: bytes) -> None:
        """salt: of the Secrets' versions, kept for a whole run."""
        self._paths = tuple(paths)
        self._salt = salt
        self._known: dict[Path, _File] = {}

    def read(self) -> Objects:
        """All that is in there now. Raises Unreadable."""
        names = _files(self._paths)
        errors = [
            f"{path}: no {' or '.join(SUFFIXES)} file in this folder"
            for path in self._paths
            if path.is_dir() and not any(name.parent == path for name in names)
        ]
        files: dict[Path, _File] = {}
        for name in dict.fromkeys(names):
            try:
                files[name] = self._file(name)
            except Unreadable as error:
                errors += error.errors
        self._known = files
        documents = [document for file in files.values() for document in file.documents]
        errors += _duplicates(documents)
        policies = [document for document in documents if document.kind == POLICY]
        if not errors and not policies:
            errors.append(f"{', '.join(map(str, self._paths))}: no {POLICY} in there")
        if errors:
            raise Unreadable(errors)
        return Objects(
            tuple(sorted(policies, key=lambda document: (document.namespace, document.name))),
            {key: each for file in files.values() for key, each in file.config_maps.items()},
            {key: each for file in files.values() for key, each in file.secrets.items()},
        )

    def _file(self, path: Path) -> "_File":
        try:
            if path.stat().st_size > SIZE_LIMIT:
                raise Unreadable([f"{path}: more than {SIZE_LIMIT // 1024 // 1024} MiB"])
            content = path.read_bytes()
        except OSError as error:
            raise Unreadable([f"{path}: can't be read: {error.strerror}"]) from error
        digest = hashlib.sha256(content).digest()
        known = self._known.get(path)
        return known if known is not None and known.digest == digest else self._parsed(path, content, digest)

    def _parsed(self, path: Path, content: bytes, digest: bytes) -> "_File":
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise Unreadable([f"{path}: is not YAML: byte {error.start} is not UTF-8"]) from error
        documents, errors = read_documents(path, text)
        if errors:
            raise Unreadable(errors)
        return _File(
            digest,
            tuple(document if document.kind == POLICY else document.bare() for document in documents),
            {
                (document.namespace, document.name): config_map_content(document)
                for document in documents
                if document.kind == CONFIG_MAP
            },
            {
                (document.namespace, document.name): secret_of(document.body, self._salt)
                for document in documents
                if document.kind == SECRET
            },
        )


@dataclass(frozen=True)
class _File:
    """digest: of its content. documents: policies whole, of others who they are. A file with errors is not remembered."""

    digest: bytes
    documents: tuple[Document, ...]
    config_maps: dict[tuple[str, str], ConfigMap]
    secrets: dict[tuple[str, str], Secret]


def _duplicates(documents: list[Document]) -> list[str]:
    seen: dict[tuple[str, str, str], Document] = {}
    errors = []
    for document in documents:
        key = (document.kind, document.namespace, document.name)
        if document.name and key in seen:
            errors.append(f"{document.path}: {document}: is in {seen[key].path} too; remove one")
        seen.setdefault(key, document)
    return errors
