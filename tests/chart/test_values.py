"""values.yaml, its schema and the README say the same, and the chart is of the distribution's version."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from postwarden_operator.cli import run
from readme import CHART, README, readme, schema_at, values
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
TEXT = (CHART / "values.yaml").read_text()
VALUES: dict[str, Any] = YAML(typ="safe").load(TEXT)


def test_chart_is_of_the_distributions_version() -> None:
    distribution = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = YAML(typ="safe").load(CHART / "Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (distribution, distribution)


def test_readme_is_what_values_and_schema_give() -> None:
    assert (ROOT / README).read_text() == readme()


def paths_of_schema(node: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Of all that has no keys of its own that are known."""
    for name in node["properties"]:
        here = (*path, name)
        inner = schema_at(SCHEMA, here)
        if "properties" in inner and here[-1] not in {"resources", "issuerRef"}:
            yield from paths_of_schema(inner, here)
        else:
            yield here


def test_every_value_that_may_be_set_is_in_the_values_with_its_meaning() -> None:
    documented = [value.path for value in values(TEXT)]
    assert len(documented) == len(set(documented))
    # `global` is Helm's own.
    assert set(documented) == set(paths_of_schema(SCHEMA)) - {("global",)}


def maps(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if schema.get("type") == "object":
        yield path, schema
    for kind in ("properties", "definitions"):
        for name, inner in schema.get(kind, {}).items():
            yield from maps(inner, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from maps(schema["items"], f"{path}[]")


def test_only_kubernetes_own_objects_may_have_keys_that_the_schema_does_not_know() -> None:
    free = {path for path, node in maps(SCHEMA) if "additionalProperties" not in node}
    kubernetes = {".operator.affinity", ".operator.tolerations[]", ".operator.extraEnv[].valueFrom"}
    assert free == {".global", ".networkPolicy.metricsFrom[]", *kubernetes}


def test_a_value_without_a_comment_is_found(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"operator\.replicas has no comment"):
        list(values("operator:\n  replicas: 2\n"))
    for name in ("Chart.yaml", "values.schema.json"):
        (tmp_path / name).write_text((CHART / name).read_text())
    (tmp_path / "values.yaml").write_text("# -- What is not there.\nreplica: 2\n")
    with pytest.raises(ValueError, match=r"values\.schema\.json does not know replica"):
        readme(tmp_path)


def test_every_setting_that_the_chart_gives_the_operator_is_one_of_its_flags() -> None:
    template = (CHART / "templates" / "_environment.tpl").read_text()
    given = set(re.findall(r"name: (POSTWARDEN_\w+)", template))
    flags = {f"POSTWARDEN_{parameter.name}".upper() for parameter in run.params if parameter.name}
    assert len(given) > 15
    assert given <= flags
