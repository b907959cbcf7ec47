"""What is wrong with a document, told with the place where it is wrong.

Contract: a FieldError is one sentence about one field: what, and what to do. PolicyInvalid holds all of them, for a person
who mends a file wants to see everything at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from postwarden_operator.policy.text_format import quoted


@dataclass(frozen=True, slots=True)
class FieldError:
    """field: the path in the document, `spec.access.rules[0].cidrs[1]`."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class PolicyInvalid(ValueError):
    """The document is no usable ScreeningPolicy; `errors` is never empty."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors: tuple[FieldError, ...] = tuple(errors)
        super().__init__("; ".join(map(str, self.errors)))


def field_path(steps: Iterable[str | int]) -> str:
    """`("spec", "rules", 0)` -> `spec.rules[0]`. A map's key that is no plain name goes into brackets, as in Kubernetes."""
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step.isascii() and step.isidentifier():
            path += f".{step}" if path else step
        else:
            # Whatever a document has for a key: the path stays on one line.
            path += f"[{quoted(step)[1:-1]}]"
    return path


def name_of(document: Mapping[str, object]) -> str:
    """`namespace/name` of a document as far as it has them, for messages."""
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        return "?"
    return f"{metadata.get('namespace') or 'default'}/{metadata.get('name') or '?'}"
