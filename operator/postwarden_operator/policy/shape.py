"""The shape of the model: which objects its fields hold. For what walks the model beside a document or writes a schema of it."""

from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from postwarden_operator.policy.part import Part


def part_in(field: FieldInfo) -> type[Part] | None:
    """The object that the field holds, or a list of which it holds; None: it holds plain values."""
    return _part_in(field.annotation)


def _part_in(annotation: object) -> type[Part] | None:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation
    return next((part for inner in get_args(annotation) if (part := _part_in(inner)) is not None), None)


def is_list(field: FieldInfo) -> bool:
    """Whether the field holds a list."""
    return _is_list(field.annotation)


def _is_list(annotation: object) -> bool:
    if get_origin(annotation) is tuple:
        return True
    wrapped = get_origin(annotation) in (Annotated, Union, UnionType)
    return wrapped and any(_is_list(inner) for inner in get_args(annotation))


def fields_of(part: type[Part]) -> dict[str, FieldInfo]:
    """By their names in the document, in order."""
    return {field.alias or name: field for name, field in part.model_fields.items()}


def part_at(root: type[Part], steps: tuple[str | int, ...]) -> type[Part] | None:
    """The object at a path of field names and list indexes; None where the path leads to something else."""
    part: type[Part] | None = root
    for step in steps:
        if isinstance(step, int):
            continue
        field = fields_of(part).get(step) if part is not None else None
        part = part_in(field) if field is not None else None
    return part
