"""The chart's README, from its values.yaml and values.schema.json: `python charts/readme.py ROOT` writes it below ROOT.

Contract: a comment `# -- …` in values.yaml says what the next key means. A key that has none and is no map of such keys raises
ValueError, as does one that the schema does not know.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

CHART = Path(__file__).parent / "postwarden"
README = "charts/postwarden/README.md"

_HEAD = """\
# Postwarden's chart

{description}: the operator, its rights, the webhook that puts sidecars into mail servers' pods, and the ScreeningPolicy CRD.
Version {version}; Kubernetes {kubernetes}. This page is made from `values.yaml` by `make generate`.

```console
helm install postwarden charts/postwarden --namespace postwarden-system --create-namespace --wait
helm test postwarden --namespace postwarden-system
```

How to go on, upgrade and uninstall: [docs/install.md](../../docs/install.md).

## Values

What is not listed here is refused.

| value | type | default | meaning |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Value:
    """path: its keys. default: as values.yaml has it."""

    path: tuple[str, ...]
    meaning: str
    default: object


def values(text: str) -> Iterator[Value]:
    """All that values.yaml documents, in its order. Raises ValueError."""
    loaded = YAML(typ="safe").load(text)
    path: list[str] = []
    meaning = ""
    for line in text.splitlines():
        if comment := re.fullmatch(r" *# -- (.*)", line):
            meaning = comment[1]
        elif key := re.match(r"( *)([A-Za-z]+):", line):
            depth = len(key[1]) // 2
            path[depth:] = [key[2]]
            default = _at(loaded, path)
            if meaning:
                yield Value(tuple(path), meaning, default)
            elif not isinstance(default, dict) and not _documented(path):
                raise ValueError(f"values.yaml: {'.'.join(path)} has no comment `# -- …`")
            meaning = ""


def _documented(path: list[str]) -> bool:
    """Whether it belongs to a value that is one to the reader: Kubernetes' own kinds of objects."""
    return "resources" in path[:-1]


def _at(loaded: Any, path: list[str]) -> object:
    for key in path:
        loaded = loaded[key]
    return loaded


def schema_at(schema: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    """What may be set at `path`. Raises ValueError."""
    node = schema
    for key in path:
        try:
            node = _resolved(schema, node["properties"][key])
        except KeyError:
            raise ValueError(f"values.schema.json does not know {'.'.join(path)}") from None
    return node


def _resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    if (reference := node.get("$ref")) is None:
        return node
    found: Mapping[str, Any] = schema["definitions"][reference.rpartition("/")[2]]
    return found


def readme(chart: Path = CHART) -> str:
    """The page. Raises ValueError, OSError."""
    about = YAML(typ="safe").load(chart / "Chart.yaml")
    schema = json.loads((chart / "values.schema.json").read_text())
    rows = []
    for value in values((chart / "values.yaml").read_text()):
        node = schema_at(schema, value.path)
        kind = (
            " or ".join(f"`{each}`" for each in node["enum"])
            if "enum" in node
            else {"array": "list", "object": "map"}.get(node["type"], node["type"])
        )
        cells = (f"`{'.'.join(value.path)}`", kind, f"`{json.dumps(value.default)}`", value.meaning)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
    head = _HEAD.format(
        description=about["description"],
        version=about["version"],
        kubernetes=about["kubeVersion"].removesuffix("-0").removeprefix(">=") + " or newer",
    )
    return head + "".join(rows)


def main(root: Path) -> None:
    target = root / README
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(readme(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
