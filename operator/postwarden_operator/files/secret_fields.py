"""Secrets among the files of `-f`: what they hold, and what is wrong with them, said without a word of it.

Contract: as in Kubernetes: `data` is base64, `stringData` is plain and goes before it. A version is a hash with a salt of this run, so that
it shows an edit and nothing else: it gets into revisions, which are printed.
"""

import base64
import binascii
import hmac
from collections.abc import Iterator, Mapping

from postwarden_operator.policy import FieldError
from postwarden_operator.policy.dnsbl import USED_FOR
from postwarden_operator.reconcile.world import Secret

_FIELDS = {"apiVersion", "kind", "metadata", "data", "stringData", "type", "immutable"}

_VERSION_DIGITS = 16
"""Hexadecimal, as a revision has."""


def secret_of(body: Mapping[str, object], salt: bytes) -> Secret:
    """The document has been read without errors."""
    content = {key: base64.b64decode(str(value)) for key, value in _mapping(body, "data").items()}
    content |= {key: str(value).encode() for key, value in _mapping(body, "stringData").items()}
    digest = hmac.new(salt, digestmod="sha256")
    for key, value in sorted(content.items()):
        digest.update(f"{len(key)} {len(value)} {key}".encode() + value)
    metadata = body.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    used_for = annotations.get(USED_FOR) if isinstance(annotations, Mapping) else None
    return Secret(content, digest.hexdigest()[:_VERSION_DIGITS], None if used_for is None else str(used_for))


def secret_errors(body: Mapping[str, object]) -> Iterator[FieldError]:
    """What is wrong with its fields."""
    for field in body:
        if field not in _FIELDS:
            yield FieldError(str(field), "is no field of a Secret (data, stringData, type, immutable)")
    for field in ("data", "stringData"):
        value = body.get(field)
        if value is not None and not isinstance(value, Mapping):
            yield FieldError(field, "must map keys to text")
            continue
        for key, content in _mapping(body, field).items():
            if not isinstance(content, str):
                yield FieldError(f"{field}[{key}]", "must be text: put it in quotes")
            elif field == "data" and not _is_base64(content):
                yield FieldError(f"data[{key}]", "is not base64; plain text goes into stringData")


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text.replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _mapping(body: Mapping[str, object], field: str) -> Mapping[str, object]:
    value = body.get(field)
    return value if isinstance(value, Mapping) else {}
