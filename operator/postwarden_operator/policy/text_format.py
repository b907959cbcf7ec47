"""A kind of text in a document: how it is checked here, and how the schema says the same.

Contract: a TextFormat is put into `Annotated[str, ...]`. The model refuses what `pattern` or `check` refuse with one sentence; the
schema gets maxLength, pattern and the CEL rules. Not pydantic's own constraints: their messages show a regular expression to
someone who wants to know what to write.
"""

from collections.abc import Callable
from dataclasses import dataclass
from re import compile as compile_pattern
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

LONGEST_QUOTE = 80
"""Characters of a wrong value that a message shows: enough to find it, short enough for one line."""


@dataclass(frozen=True, slots=True)
class CelRule:
    """What the API server is to check beyond the schema. message: as a sentence about the value."""

    rule: str
    message: str
    reason: str = "FieldValueInvalid"
    field_path: str | None = None

    def schema(self) -> dict[str, Any]:
        """As in `x-kubernetes-validations`."""
        entry = {"rule": self.rule, "message": self.message, "reason": self.reason}
        return entry if self.field_path is None else entry | {"fieldPath": self.field_path}


@dataclass(frozen=True, slots=True)
class TextFormat:
    """kind: what the reference calls it. problem: what is said, after the text itself, of a text that `pattern` or the lengths refuse;
    pattern is in the ground that RE2 and Python share. check: a sentence about a text that fits the pattern and is wrong nevertheless.
    """

    kind: str
    problem: str
    max_length: int
    pattern: str | None = None
    min_length: int = 0
    check: Callable[[str], str | None] | None = None
    cel: tuple[CelRule, ...] = ()

    def error(self, text: str) -> str | None:
        """One sentence on what is wrong with the text, or None."""
        if len(text) > self.max_length:
            return f"{quoted(text)} has {len(text)} characters; at most {self.max_length} are possible"
        # fullmatch: `$` alone lets a line break at the end through.
        if len(text) < self.min_length or (
            self.pattern and not compile_pattern(self.pattern).fullmatch(text)
        ):
            return f"{quoted(text)} {self.problem}"
        return self.check(text) if self.check else None

    def _validate(self, text: str) -> str:
        error = self.error(text)
        if error is not None:
            # The text may hold braces, which a message template would take for fields.
            raise PydanticCustomError("text_format", "{sentence}", {"sentence": error})
        return text

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            self._validate, core_schema.str_schema(strict=True)
        )

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema: JsonSchemaValue = {"type": "string", "maxLength": self.max_length}
        if self.min_length:
            schema["minLength"] = self.min_length
        if self.pattern:
            schema["pattern"] = self.pattern
        if self.cel:
            schema["x-kubernetes-validations"] = [rule.schema() for rule in self.cel]
        return schema


def quoted(text: str) -> str:
    """The text as a message shows it: on one line, bounded."""
    shown = text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"
    return '"' + shown.encode("unicode_escape").decode("ascii").replace("\\u2026", "…") + '"'
