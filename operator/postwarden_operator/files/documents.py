"""YAML text in, Kubernetes objects out, or everything that is wrong with it, with file and line.

Contract: ScreeningPolicies, ConfigMaps and Secrets; any other kind is an error, for a file that is meant for
another program would else be half obeyed. Unknown fields of a ConfigMap are errors; a policy's content is the
policy parser's matter. An object without a namespace is in `default`. ruamel.yaml and not PyYAML: it knows
the line of every field, and refuses a key that comes twice.
"""

import base64
import binascii
import dataclasses
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from postwarden_operator.files.secret_fields import secret_errors
from postwarden_operator.policy import FieldError

POLICY, CONFIG_MAP, SECRET = "ScreeningPolicy", "ConfigMap", "Secret"

API_VERSIONS = {POLICY: "postwarden.dev/v1alpha1", CONFIG_MAP: "v1", SECRET: "v1"}
"""The kinds that are read, and where Kubernetes has them."""

_CONFIG_MAP_FIELDS = {"apiVersion", "kind", "metadata", "data", "binaryData", "immutable"}


@dataclass(frozen=True, eq=False)
class Document:
    """One object of a file.

    body: as YAML has it, with `metadata.namespace` filled in. number: from 1, in its file.
    """

    path: Path
    number: int
    body: Mapping[str, object] = dataclasses.field(repr=False)

    @property
    def kind(self) -> str:
        return str(self.body.get("kind") or "object")

    @property
    def namespace(self) -> str:
        return self._metadata("namespace")

    @property
    def name(self) -> str:
        return self._metadata("name")

    def _metadata(self, field: str) -> str:
        metadata = self.body.get("metadata")
        return str(metadata.get(field) or "") if isinstance(metadata, Mapping) else ""

    def bare(self) -> "Document":
        """Without its content."""
        identity = {field: self.body[field] for field in ("kind", "metadata") if field in self.body}
        return dataclasses.replace(self, body=identity)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.name else f"document {self.number}"

    def located(self, error: FieldError) -> str:
        """The error with file, line and object: one line for a person."""
        return f"{self.path}:{line_of(self.body, error.field)}: {self}: {error}"


def read_documents(path: Path, text: str) -> tuple[list[Document], list[str]]:
    """The objects of a file, and what is wrong, a line each. Empty documents are left out."""
    try:
        parsed = list(YAML(typ="rt", pure=True).load_all(io.StringIO(text)))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        # Of a key that comes twice, and of an unknown alias, ruamel says the text too, which may be a Secret's.
        problem = re.split(r" with value |(?<= alias) '", str(error.problem or error.context))[0]
        return [], [f"{path}{line}: is not YAML: {problem}"]
    except ValueError:
        return [], [f"{path}: is not YAML: a value does not fit its tag"]  # its text may be a Secret's
    except (YAMLError, RecursionError) as error:
        return [], [f"{path}: is not YAML: {' '.join(str(error).split())}"]
    documents, errors = [], []
    for number, body in enumerate(parsed, 1):
        if body is None:
            continue
        if not isinstance(body, CommentedMap):
            errors.append(
                f"{path}: document {number}: is no Kubernetes object (apiVersion, kind, metadata, …)"
            )
            continue
        metadata = body.get("metadata")
        if isinstance(metadata, CommentedMap) and not metadata.get("namespace"):
            metadata["namespace"] = "default"
        document = Document(path, number, body)
        documents.append(document)
        errors += [document.located(error) for error in _errors(document)]
    return documents, errors


def config_map_content(document: Document) -> dict[str, bytes]:
    """Its keys. The document has been read without errors."""
    content = {key: str(value).encode() for key, value in _mapping(document, "data").items()}
    for key, value in _mapping(document, "binaryData").items():
        content[key] = base64.b64decode(str(value))
    return content


def _mapping(document: Document, field: str) -> Mapping[str, object]:
    value = document.body.get(field)
    return value if isinstance(value, Mapping) else {}


def _errors(document: Document) -> Iterator[FieldError]:
    kind, api_version = document.body.get("kind"), document.body.get("apiVersion")
    if kind not in API_VERSIONS:
        known = ", ".join(f"{name} ({version})" for name, version in API_VERSIONS.items())
        yield FieldError(
            "kind", f"{kind or 'none'} ({api_version or 'no apiVersion'}) is not read here, only {known}"
        )
        return
    if kind == POLICY:
        return  # the policy parser says it better
    if api_version != API_VERSIONS[str(kind)]:
        yield FieldError("apiVersion", f"of a {kind} must be {API_VERSIONS[str(kind)]}, not {api_version}")
    if not document.name:
        yield FieldError("metadata.name", "is missing")
    if kind == CONFIG_MAP:
        yield from _config_map_errors(document)
    if kind == SECRET:
        yield from secret_errors(document.body)


def _config_map_errors(document: Document) -> Iterator[FieldError]:
    for field in document.body:
        if field not in _CONFIG_MAP_FIELDS:
            yield FieldError(str(field), "is no field of a ConfigMap (data, binaryData, immutable)")
    for field in ("data", "binaryData"):
        value = document.body.get(field)
        if value is not None and not isinstance(value, Mapping):
            yield FieldError(field, "must map keys to text")
            continue
        for key, content in _mapping(document, field).items():
            if not isinstance(content, str):
                yield FieldError(f"{field}[{key}]", f"must be text: put {content} in quotes, or after `|`")
            elif field == "binaryData":
                try:
                    base64.b64decode(content.replace("\n", ""), validate=True)
                except (binascii.Error, ValueError) as error:
                    yield FieldError(f"{field}[{key}]", f"is not base64: {error}")


_STEP = re.compile(r"\.?([^.\[\]]+)|\[([^\[\]]*)\]")


def line_of(body: object, field: str) -> int:
    """The line (from 1) of a field path such as `spec.access.rules[0].cidrs[1]`.

    Of the nearest parent if it is absent.
    """
    line = body.lc.line if isinstance(body, CommentedMap) else 0
    for step in _STEP.finditer(field):
        key = step[1] if step[1] is not None else step[2]
        if isinstance(body, CommentedMap) and key in body:
            line = body.lc.key(key)[0]
            body = body[key]
        elif isinstance(body, CommentedSeq) and key.isdigit() and int(key) < len(body):
            line = body.lc.item(int(key))[0]
            body = body[int(key)]
        else:
            break
    return int(line) + 1
