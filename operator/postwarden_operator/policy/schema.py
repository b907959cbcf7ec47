"""The model as Kubernetes and as editors want it: a structural schema in a CustomResourceDefinition, and a JSON schema.

Contract: pydantic's JSON schema, made structural: references inlined, no `anyOf` with null (the API server prunes nulls), no titles, no
`additionalProperties: false` (it prunes unknown fields, and kubectl refuses them). Objects that have a default get `{}`, or the defaults in
them would never appear (measured). Empty lists and maps are not written as defaults: they say nothing, and would fill every selector.
"""

from typing import Any

from postwarden_operator.policy.model import GROUP, KIND, VERSION, ScreeningPolicySpec
from postwarden_operator.policy.part import Part
from postwarden_operator.policy.shape import fields_of, part_in
from postwarden_operator.policy.status import ScreeningPolicyStatus
from postwarden_operator.policy.vocabulary import DOCUMENTED_DEFAULT

PLURAL = "screeningpolicies"
SHORT_NAME = "spol"

Schema = dict[str, Any]

_NOT_STRUCTURAL = {"title", "$defs", "propertyNames", "patternProperties", DOCUMENTED_DEFAULT}

_FIRST_KEYWORDS = ("description", "type", "enum", "default", "required")

_COLUMNS = (
    ("Mode", "string", ".spec.mode", "What is done with decisions"),
    ("Sidecars", "string", ".status.sidecars.summary", "In force / matched"),
    (
        "Programmed",
        "string",
        '.status.conditions[?(@.type=="Programmed")].status',
        "Every sidecar has it in force",
    ),
    ("Revision", "string", ".status.revision", "Hash of the policy and its lists"),
    ("Age", "date", ".metadata.creationTimestamp", ""),
)


def custom_resource_definition() -> Schema:
    """The CRD, as an object of apiextensions.k8s.io/v1."""
    columns = [
        {"name": name, "type": kind, "jsonPath": path} | ({"description": meaning} if meaning else {})
        for name, kind, path, meaning in _COLUMNS
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": [SHORT_NAME],
                "categories": ["mail"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": _openapi()},
                }
            ],
        },
    }


def editor_schema() -> Schema:
    """A JSON schema (2020-12) of a whole document, for editors: unknown fields are errors, Kubernetes' own keywords are left out."""
    schema = _closed(_openapi())
    del schema["properties"]["status"]
    schema["properties"]["apiVersion"]["const"] = f"{GROUP}/{VERSION}"
    schema["properties"]["kind"]["const"] = KIND
    schema["properties"]["metadata"]["required"] = ["name"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": KIND,
        **schema,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
    }


def _openapi() -> Schema:
    return {
        "description": "Screens SMTP clients in front of a mail server: who is let in, tested, or turned away.",
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(ScreeningPolicySpec),
            "status": structural(ScreeningPolicyStatus),
        },
        "required": ["spec"],
    }


def structural(part: type[Part]) -> Schema:
    """The structural schema of an object of the model."""
    schema = part.model_json_schema(by_alias=True)
    return _with_object_defaults(_inlined(schema, schema.get("$defs", {})), part)


def _inlined(node: Schema, definitions: Schema) -> Schema:
    node = dict(node)
    if "$ref" in node:
        target = definitions[node.pop("$ref").rpartition("/")[2]]
        return _inlined({**target, **node}, definitions)
    if "anyOf" in node:
        (value,) = (choice for choice in node.pop("anyOf") if choice != {"type": "null"})
        node.pop("default")
        return _inlined({**value, **node}, definitions)
    if patterns := node.get("patternProperties"):
        # pydantic's form of a map whose keys have a format; CEL says it for Kubernetes.
        (node["additionalProperties"],) = patterns.values()
    kept = {key: value for key, value in node.items() if key not in _NOT_STRUCTURAL}
    if kept.get("additionalProperties") is False:
        del kept["additionalProperties"]
    for key in ("items", "additionalProperties"):
        if key in kept:
            kept[key] = _inlined(kept[key], definitions)
    if "properties" in kept:
        kept["properties"] = {
            name: _inlined(inner, definitions) for name, inner in kept["properties"].items()
        }
    if kept.get("type") == "array":
        kept.setdefault("x-kubernetes-list-type", "atomic")
    if kept.get("default") in ([], {}):
        del kept["default"]
    if "description" in kept:
        kept["description"] = " ".join(kept["description"].split())
    return {key: kept[key] for key in sorted(kept, key=_rank)}


def _rank(keyword: str) -> int:
    """What people look for goes first, the rest stays as it is."""
    return _FIRST_KEYWORDS.index(keyword) if keyword in _FIRST_KEYWORDS else len(_FIRST_KEYWORDS)


def _with_object_defaults(schema: Schema, part: type[Part]) -> Schema:
    for name, field in fields_of(part).items():
        inner = part_in(field)
        if inner is None:
            continue
        target = schema["properties"][name]
        if field.default_factory is not None:
            target["default"] = {}
        _with_object_defaults(target.get("items", target), inner)
    return schema


def _closed(node: Schema) -> Schema:
    """Without Kubernetes' keywords, and with no fields but those named."""
    closed = {key: value for key, value in node.items() if not key.startswith("x-kubernetes-")}
    for key in ("items", "additionalProperties"):
        if key in closed:
            closed[key] = _closed(closed[key])
    if "properties" in closed:
        closed["properties"] = {name: _closed(inner) for name, inner in closed["properties"].items()}
        closed["additionalProperties"] = False
    elif closed.get("type") == "object" and "additionalProperties" not in closed:
        closed["additionalProperties"] = True
    return closed
