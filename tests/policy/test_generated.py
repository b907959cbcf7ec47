"""The files that are made from the model are up to date, and the schema is one that Kubernetes takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postwarden_operator.policy.generate import generated_files, write_files
from postwarden_operator.policy.model import ScreeningPolicySpec
from postwarden_operator.policy.part import Part
from postwarden_operator.policy.reference_table import reference_table
from postwarden_operator.policy.schema import custom_resource_definition, editor_schema, structural
from postwarden_operator.policy.shape import fields_of, part_in
from postwarden_operator.policy.status import ScreeningPolicyStatus
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]

SCHEMAS = [structural(ScreeningPolicySpec), structural(ScreeningPolicyStatus)]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


ALL_NODES = [node for schema in SCHEMAS for node in nodes(schema)]


@pytest.mark.parametrize("path", generated_files())
def test_committed_file_is_what_the_model_gives(path: str) -> None:
    assert (ROOT / path).read_text() == generated_files()[path]


def test_files_are_written_below_the_root_given(tmp_path: Path) -> None:
    write_files(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*") if path.is_file()} == set(
        generated_files()
    )


def test_schema_has_only_what_a_structural_schema_may_have() -> None:
    allowed = {
        *(
            "type",
            "description",
            "default",
            "enum",
            "required",
            "properties",
            "items",
            "additionalProperties",
        ),
        *(
            "maxItems",
            "minItems",
            "maxLength",
            "minLength",
            "maxProperties",
            "pattern",
            "minimum",
            "maximum",
            "format",
        ),
        *(
            "x-kubernetes-validations",
            "x-kubernetes-list-type",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-map-type",
        ),
    }
    assert [(path, node.keys() - allowed) for path, node in ALL_NODES if node.keys() - allowed] == []
    assert [path for path, node in ALL_NODES if "type" not in node] == []


def test_every_text_list_and_map_is_bounded() -> None:
    def unbounded(node: dict[str, Any]) -> bool:
        match node["type"]:
            case "string":
                return not node.keys() & {"maxLength", "enum", "format"}
            case "array":
                return "maxItems" not in node
            case _:
                return "additionalProperties" in node and "maxProperties" not in node

    assert [path for path, node in ALL_NODES if unbounded(node)] == []


def test_every_field_is_described() -> None:
    fields = [inner for _, node in ALL_NODES for inner in node.get("properties", {}).items()]
    assert [name for name, inner in fields if not inner.get("description")] == []


def test_parents_of_defaults_have_defaults_themselves() -> None:
    spec = SCHEMAS[0]
    parents = [
        name
        for name, inner in spec["properties"].items()
        if any("default" in node for _, node in nodes(inner))
    ]
    assert [name for name in parents if "default" not in spec["properties"][name]] == []
    assert spec["properties"]["listener"]["properties"]["proxyProtocol"]["default"] == {}
    assert "default" not in spec["properties"]["upstream"]


def test_yaml_reads_the_same_for_a_reader_of_yaml_1_1_as_kubernetes_has() -> None:
    (text,) = (
        text
        for path, text in generated_files().items()
        if path.startswith("crds/") and path.endswith(".yaml")
    )
    reader = YAML(typ="safe", pure=True)
    reader.version = (1, 1)
    assert reader.load(text) == custom_resource_definition()


def test_editors_are_told_of_unknown_fields_and_not_of_kubernetes_keywords() -> None:
    schema = editor_schema()
    spec = schema["properties"]["spec"]
    assert spec["additionalProperties"] is False
    assert spec["properties"]["access"]["properties"]["rules"]["items"]["additionalProperties"] is False
    assert schema["properties"]["metadata"]["additionalProperties"] is True
    assert [key for _, node in nodes(schema) for key in node if key.startswith("x-")] == []


def paths(part: type[Part], path: str) -> Iterator[str]:
    for name, field in fields_of(part).items():
        yield f"{path}.{name}"
        if (inner := part_in(field)) is not None:
            yield from paths(inner, f"{path}.{name}")


def test_reference_has_a_row_for_every_field_with_type_and_meaning() -> None:
    rows = [line.split(" | ") for line in reference_table().splitlines() if line.startswith("| `")]
    documented = [row[0].strip("| `").replace("[]", "") for row in rows]
    assert documented == [*paths(ScreeningPolicySpec, "spec"), *paths(ScreeningPolicyStatus, "status")]
    assert [row for row in rows if not row[1] or not row[3].strip(" |")] == []
