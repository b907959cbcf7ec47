"""The files that are made from the model. `python -m postwarden_operator.policy.generate ROOT` writes them below ROOT.

Contract: they are committed, and a test compares them with what this makes.
"""

import io
import json
import sys
from pathlib import Path

from ruamel.yaml import YAML

from postwarden_operator.policy.model import GROUP
from postwarden_operator.policy.reference_table import reference_table
from postwarden_operator.policy.schema import PLURAL, custom_resource_definition, editor_schema

_DO_NOT_EDIT = "# Made from the model in operator/postwarden_operator/policy by `make generate`. Edit that.\n"

_YAML_WIDTH = 4096
"""Columns: nothing is folded, for ruamel leaves white space at the ends of lines."""


_CHART_METADATA = """\
  annotations:
    # Policies are to outlive the chart.
    helm.sh/resource-policy: keep
  labels:
    {{- include "postwarden.labels" . | nindent 4 }}
"""


def generated_files() -> dict[str, str]:
    """Content by path, relative to the repository."""
    definition = _yaml(custom_resource_definition())
    return {
        f"crds/postwarden.dev_{PLURAL}.yaml": _DO_NOT_EDIT + definition,
        "charts/postwarden/templates/crd.yaml": _chart_template(definition),
        "crds/screeningpolicy.schema.json": json.dumps(editor_schema(), indent=2, ensure_ascii=False) + "\n",
        "docs/reference/screeningpolicy.md": reference_table(),
    }


def _chart_template(definition: str) -> str:
    """The CRD as Helm's template: what lies in a chart's folder crds/ is never upgraded."""
    escaped = definition.replace("{{", '{{ "{{" }}')
    before, name, after = escaped.partition(f"  name: {PLURAL}.{GROUP}\n")
    document = f"{before}{name}{_CHART_METADATA}{after}"
    return f"{_DO_NOT_EDIT}{{{{- if .Values.crds.install }}}}\n{document}{{{{- end }}}}\n"


def _yaml(document: object) -> str:
    writer = YAML()
    writer.width = _YAML_WIDTH
    text = io.StringIO()
    # Through JSON: what the schema holds in several places would become YAML anchors.
    writer.dump(json.loads(json.dumps(document)), text)
    return text.getvalue()


def write_files(root: Path) -> None:
    """All of them, with the folders they need. Raises OSError."""
    for path, text in generated_files().items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_files(Path(sys.argv[1]))
