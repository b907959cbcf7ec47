"""A document in, a ScreeningPolicy out, or everything that is wrong with it.

Contract: a document is what a YAML or JSON reader gives. Nulls count as left out, as the API server treats them. `strict` is for
documents that no API server has seen: unknown fields, apiVersion and kind are errors there; else unknown fields, which may be those
of a newer schema, are ignored as the API server has already pruned what it does not know.
"""

from collections.abc import Iterator, Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from postwarden_operator.policy.errors import FieldError, PolicyInvalid, field_path
from postwarden_operator.policy.messages import missing_field, not_among, sentence, unknown_field
from postwarden_operator.policy.model import GROUP, KIND, VERSION, Metadata, ScreeningPolicy
from postwarden_operator.policy.part import Part
from postwarden_operator.policy.shape import fields_of, is_list, part_at, part_in

API_VERSION = f"{GROUP}/{VERSION}"

_TOP = ("apiVersion", "kind", "metadata", "spec", "status")

_OBJECT_META = (
    "name",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "generation",
    "creationTimestamp",
    "resourceVersion",
    "generateName",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
)
"""Kubernetes' ObjectMeta; we read the fields of Metadata."""


def parse_policy(document: Mapping[str, object], *, strict: bool) -> ScreeningPolicy:
    """The policy that the document states, with its defaults filled in. Raises PolicyInvalid with all errors."""
    whole = plain(document)
    assert isinstance(whole, dict)
    body = {key: whole[key] for key in ("metadata", "spec") if key in whole}
    errors = [*_envelope_errors(whole)] if strict else []
    if isinstance(metadata := body.get("metadata"), dict):
        body["metadata"] = {key: metadata[key] for key in fields_of(Metadata) if key in metadata}
    policy, problems = _validate(body)
    unknown = [problem for problem in problems if problem["type"] == "extra_forbidden"]
    if unknown and not strict:
        for problem in unknown:
            _remove(body, problem["loc"])
        policy, problems = _validate(body)
    errors += [_field_error(problem) for problem in problems]
    errors += _broken_rules(ScreeningPolicy, body, ())
    if errors or policy is None:
        raise PolicyInvalid(errors)
    return policy


def plain(value: object) -> object:
    """The same in dict, list and plain scalars, without null fields: readers have classes of their own for all of them."""
    match value:
        case Mapping():
            return {_key(key): plain(inner) for key, inner in value.items() if inner is not None}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case str():
            return str(value)
        case bool():
            return value
        case int():
            return int(value)
        case _:
            return value


def _key(key: object) -> str:
    """YAML knows keys that are no text; JSON, which the API server is sent, does not."""
    return str(key).lower() if isinstance(key, bool) else str(key)


def _validate(body: dict[str, object]) -> tuple[ScreeningPolicy | None, list[ErrorDetails]]:
    try:
        return ScreeningPolicy.model_validate(body, by_alias=True, by_name=False), []
    except ValidationError as error:
        return None, [problem for problem in error.errors(include_url=False) if not _is_echo(problem)]


def _is_echo(problem: ErrorDetails) -> bool:
    """pydantic calls a list too short that has entries, when all of them are wrong."""
    return problem["type"] == "too_short" and bool(problem["input"])


def _envelope_errors(document: dict[str, object]) -> Iterator[FieldError]:
    for field, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if field not in document:
            yield FieldError(field, f"is missing; write {expected}")
        elif document[field] != expected:
            yield FieldError(field, not_among(document[field], [expected]))
    yield from _unknown(document, _TOP, ())
    metadata = document.get("metadata")
    if isinstance(metadata, dict):
        yield from _unknown(metadata, _OBJECT_META, ("metadata",))


def _unknown(
    value: dict[str, object], known: tuple[str, ...], steps: tuple[str, ...]
) -> Iterator[FieldError]:
    return (
        FieldError(field_path((*steps, name)), unknown_field(name, known))
        for name in value
        if name not in known
    )


def _field_error(problem: ErrorDetails) -> FieldError:
    # A map's key that is wrong has one step more: what it is that is wrong, namely the key.
    steps = tuple(step for step in problem["loc"] if step != "[key]")
    field = field_path(steps)
    part = part_at(ScreeningPolicy, steps[:-1])
    known = fields_of(part) if part is not None else {}
    match problem["type"]:
        case "extra_forbidden":
            return FieldError(field, unknown_field(str(steps[-1]), known))
        case "missing":
            return FieldError(field, missing_field(field, known.get(str(steps[-1]))))
        case _:
            return FieldError(field, sentence(problem))


def _remove(body: object, steps: tuple[str | int, ...]) -> None:
    for step in steps[:-1]:
        body = body[step]  # type: ignore[index]  # the model has been there
    del body[steps[-1]]  # type: ignore[attr-defined]


def _broken_rules(part: type[Part], value: object, steps: tuple[str | int, ...]) -> Iterator[FieldError]:
    """Of this object and all in it. Asked of the document: an object with a wrong field has no model to ask."""
    if not isinstance(value, dict):
        return
    for rule in part.RULES:
        if rule.wrong(value):
            where = steps if rule.field is None else (*steps, rule.field)
            yield FieldError(field_path(where), rule.cel.message)
    for name, field in fields_of(part).items():
        inner = part_in(field)
        if inner is None or name not in value:
            continue
        if not is_list(field):
            yield from _broken_rules(inner, value[name], (*steps, name))
        elif isinstance(items := value[name], list):
            for index, item in enumerate(items):
                yield from _broken_rules(inner, item, (*steps, name, index))
