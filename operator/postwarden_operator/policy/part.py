"""What every object of a document has in common: camelCase names outside, no unknown fields, and rules across its fields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from postwarden_operator.policy.text_format import CelRule


@dataclass(frozen=True, slots=True)
class CrossFieldRule:
    """A rule on several fields of one object, said twice: for the API server in CEL, and for us.

    wrong: whether the object, as it stands in the document, breaks the rule. It is asked of the document and not of the model, so
    that a wrong field does not hide a broken rule. field: the field that is to blame, if one is (its name in the document).
    """

    cel: CelRule
    wrong: Callable[[Mapping[str, object]], bool]
    field: str | None = None


class Part(BaseModel):
    """An object of a document. Immutable; built by `parse_policy`, or in code by its Python names."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )
    RULES: ClassVar[tuple[CrossFieldRule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core))
        if cls.RULES:
            schema["x-kubernetes-validations"] = [rule.cel.schema() for rule in cls.RULES]
        return schema


def across(
    rule: str,
    message: str,
    wrong: Callable[[Mapping[str, object]], bool],
    *,
    field: str | None = None,
    reason: str = "FieldValueInvalid",
) -> CrossFieldRule:
    """A CrossFieldRule; `rule` is true of good objects, `wrong` of bad ones."""
    return CrossFieldRule(CelRule(rule, message, reason, f".{field}" if field else None), wrong, field)
