"""The reference of a policy's fields, as Markdown, from the model."""

import json
from collections.abc import Iterator
from enum import Enum
from typing import get_args

from pydantic.fields import FieldInfo

from postwarden_operator.policy.model import GROUP, KIND, VERSION, ScreeningPolicySpec
from postwarden_operator.policy.part import Part
from postwarden_operator.policy.shape import fields_of, is_list, part_in
from postwarden_operator.policy.status import ScreeningPolicyStatus
from postwarden_operator.policy.text_format import TextFormat
from postwarden_operator.policy.vocabulary import DOCUMENTED_DEFAULT

_HEADER = f"""\
# {KIND}

`{GROUP}/{VERSION}`, namespaced, short name `spol`. This page is made from the model by `make generate`.

Durations are written like `6s`, `500ms` or `1h30m`. A network is an address or `ADDRESS/LENGTH`, IPv4 or IPv6, with no host bits set.
"""

_TABLE = "| field | type | default | meaning |\n|---|---|---|---|\n"


def reference_table() -> str:
    """The page."""
    spec = "".join(_rows(ScreeningPolicySpec, "spec"))
    status = "".join(_rows(ScreeningPolicyStatus, "status"))
    return f"{_HEADER}\n## spec\n\n{_TABLE}{spec}\n## status\n\nWritten by the operator.\n\n{_TABLE}{status}"


def _rows(part: type[Part], path: str) -> Iterator[str]:
    for name, field in fields_of(part).items():
        inner = part_in(field)
        here = f"{path}.{name}" + ("[]" if is_list(field) and inner is not None else "")
        kind = ("list" if is_list(field) else "object") if inner is not None else _kind(field)
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        yield f"| `{here}` | {kind} | {_default(field)} | {meaning} |\n"
        if inner is not None:
            yield from _rows(inner, here)


def _kind(field: FieldInfo) -> str:
    kinds = list(_kinds(field))
    if str(field.annotation).startswith("dict["):
        return f"map of {kinds[0]} to {kinds[1]}"
    return f"list of {kinds[0]}s" if is_list(field) else kinds[0]


def _kinds(field: FieldInfo) -> Iterator[str]:
    yield from (each.kind for each in field.metadata if isinstance(each, TextFormat))
    yield from _kinds_in(field.annotation)


def _kinds_in(annotation: object) -> Iterator[str]:
    inner = get_args(annotation)
    if formats := [each.kind for each in inner if isinstance(each, TextFormat)]:
        yield formats[0]
        return
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        yield ", ".join(f"`{word.value}`" for word in annotation)
    for each in inner:
        yield from _kinds_in(each)
    if all(isinstance(each, str) for each in inner) and inner:
        yield ", ".join(f"`{word}`" for word in inner)
    names = {bool: "true or false", int: "integer", str: "text"}
    if isinstance(annotation, type) and annotation in names:
        yield names[annotation]
    if getattr(annotation, "__name__", "") == "datetime":
        yield "time"


def _default(field: FieldInfo) -> str:
    if isinstance(field.json_schema_extra, dict) and DOCUMENTED_DEFAULT in field.json_schema_extra:
        return str(field.json_schema_extra[DOCUMENTED_DEFAULT])
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, Part) or value in ((), {}):
        return ""
    return f"`{json.dumps(value, default=list)}`"
