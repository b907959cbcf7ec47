"""What a person is told about a field: one sentence, with what to do.

Contract: every error kind that the model can give has its own words here or in a TextFormat; pydantic's, which speak of Python, are
the last resort.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from enum import Enum

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from postwarden_operator.policy.text_format import quoted

_SELECTOR = "spec.selector"


def sentence(error: ErrorDetails) -> str:
    """What is wrong with a field, from the model's error."""
    value, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "text_format":
            return str(context["sentence"])
        case "enum":
            return not_among(
                value, str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
            )
        case "string_type":
            return f"{_shown(value)} must be text; put a plain value in quotes"
        case "int_type":
            return f"{_shown(value)} must be a whole number, without quotes"
        case "bool_type":
            return f"{_shown(value)} must be true or false, without quotes"
        case "greater_than_equal":
            return f"{_shown(value)} is too small; at least {context['ge']}"
        case "less_than_equal":
            return f"{_shown(value)} is too large; at most {context['le']}"
        case "tuple_type":
            return f"{_shown(value)} must be a list"
        case "dict_type" | "model_type":
            return f"{_shown(value)} must be an object with fields"
        case "too_short":
            return "is an empty list; give at least one entry"
        case "too_long":
            return f"has {context['actual_length']} entries; at most {context['max_length']} are possible"
        case "datetime_type" | "datetime_parsing" | "datetime_from_date_parsing":
            return f"{_shown(value)} must be a time like 2026-01-31T12:00:00Z"
        case _:
            return f"{_shown(value)} is not valid: {error['msg']}"


def missing_field(path: str, field: FieldInfo | None) -> str:
    """For a field that has no default, with what could be written."""
    if path == _SELECTOR:
        return "is missing; name the pods by their labels, or write {} for all pods of the namespace"
    kind = field.annotation if field is not None else None
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"is missing; possible: {', '.join(word.value for word in kind)}"
    return "is missing, and it has no default"


def unknown_field(name: str, known: Iterable[str]) -> str:
    """For a field that nothing has, with the near match or all that could have been meant."""
    names = list(known)
    near = _near(name, names)
    return (
        f"is no known field; did you mean {near}?"
        if near
        else f"is no known field; possible here: {', '.join(names)}"
    )


def not_among(value: object, choices: Iterable[str]) -> str:
    """For a value that is none of a few words."""
    words = list(choices)
    near = _near(value, words) if isinstance(value, str) else None
    hint = f"did you mean {near}?" if near else f"possible: {', '.join(words)}"
    return f"{_shown(value)} is not possible here; {hint}"


def _near(name: str, candidates: list[str]) -> str | None:
    by_folded = {candidate.casefold(): candidate for candidate in candidates}
    # 0.6 is difflib's own cutoff: it finds letters swapped, missing or doubled, and not another word of the same length.
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def _shown(value: object) -> str:
    match value:
        case str() if not isinstance(value, Enum):
            return quoted(value)
        case bool() | int() | float():
            return json.dumps(value)
        case Mapping():
            return "an object"
        case list():
            return "a list"
        case None:
            return "null"
        case _:
            return quoted(str(value))
