"""YAML files: what is read, and what is said of a file that can't be used."""

from pathlib import Path

import pytest
from postwarden_operator.files.documents import config_map_content, line_of, read_documents
from postwarden_operator.policy import FieldError

PATH = Path("policy.yaml")

POLICY = """\
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {name: wall}
spec:
  selector: {}
  access:
    rules:
    - action: Reject
      cidrs:
      - 192.0.2.0/24
      - 10.0.0.1/8
"""


def errors(text: str) -> list[str]:
    return read_documents(PATH, text)[1]


def config_map(data: str) -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: lists}}\n{data}\n"


def test_several_documents_of_a_file_are_read_and_empty_ones_passed_over() -> None:
    documents, wrong = read_documents(PATH, f"---\n{POLICY}---\n\n---\n{config_map('data: {a: b}')}---\n")
    assert wrong == []
    assert [(each.kind, each.namespace, each.name) for each in documents] == [
        ("ScreeningPolicy", "default", "wall"),
        ("ConfigMap", "default", "lists"),
    ]


def test_namespace_of_the_object_is_kept() -> None:
    (document,), _ = read_documents(PATH, POLICY.replace("{name: wall}", "{name: wall, namespace: mail}"))
    assert document.namespace == "mail"


def test_json_is_yaml() -> None:
    documents, wrong = read_documents(
        PATH,
        '{"apiVersion": "v1", "kind": "ConfigMap",\n\t"metadata": {"name": "lists"}, "data": {"a": "b"}}',
    )
    assert wrong == []
    assert config_map_content(documents[0]) == {"a": b"b"}


def test_error_is_located_by_file_line_object_and_field() -> None:
    (document,), _ = read_documents(PATH, POLICY)
    error = FieldError("spec.access.rules[0].cidrs[1]", "has host bits set")
    assert (
        document.located(error)
        == "policy.yaml:11: ScreeningPolicy default/wall: spec.access.rules[0].cidrs[1]: has host bits set"
    )


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("spec", 4),
        ("spec.access.rules[0].action", 8),
        ("spec.access.rules[0].listFrom", 8),
        ("spec.access.rules[7]", 7),
        ("nowhere", 1),
    ],
)
def test_line_of_a_field_or_of_its_nearest_parent(field: str, line: int) -> None:
    (document,), _ = read_documents(PATH, POLICY)
    assert line_of(document.body, field) == line


def test_line_counts_from_the_top_of_the_file_in_a_later_document() -> None:
    documents, _ = read_documents(PATH, f"{config_map('data: {}')}---\n{POLICY}")
    assert line_of(documents[1].body, "spec.selector") == 10


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: b\n c: d\n", "policy.yaml:2: is not YAML: mapping values are not allowed here"),
        ("a: 'x\n", "policy.yaml:2: is not YAML: found unexpected end of stream"),
        ("a: 1\na: 2\n", 'policy.yaml:2: is not YAML: found duplicate key "a"'),
        ("a: \x00\n", "policy.yaml: is not YAML:"),
        ("just text\n", "policy.yaml: document 1: is no Kubernetes object"),
        ("- a\n", "policy.yaml: document 1: is no Kubernetes object"),
        (
            "apiVersion: apps/v1\nkind: Deployment\n",
            "policy.yaml:2: document 1: kind: Deployment (apps/v1) is not read",
        ),
        ("metadata: {name: x}\n", "policy.yaml:1: object default/x: kind: none (no apiVersion) is not read"),
        (
            "kind: ConfigMap\napiVersion: v2\nmetadata: {name: x}\n",
            "policy.yaml:2: ConfigMap default/x: apiVersion: ",
        ),
        ("kind: ConfigMap\napiVersion: v1\n", "policy.yaml:1: document 1: metadata.name: is missing"),
        (config_map("dat: {a: b}"), "policy.yaml:4: ConfigMap default/lists: dat: is no field"),
        (config_map("data: text"), "policy.yaml:4: ConfigMap default/lists: data: must map keys to text"),
        (config_map("data:\n  a: 10"), "policy.yaml:5: ConfigMap default/lists: data[a]: must be text"),
        (
            config_map("binaryData:\n  a: '?'"),
            "policy.yaml:5: ConfigMap default/lists: binaryData[a]: is not base64",
        ),
    ],
)
def test_what_can_not_be_used_is_told_with_its_place(text: str, expected: str) -> None:
    (error,) = errors(text)
    assert error.startswith(expected)


def test_all_errors_of_a_file_are_told() -> None:
    assert len(errors(config_map("data: {a: 1, b: 2}"))) == 2


def test_text_and_binary_data_are_the_content() -> None:
    (document,), _ = read_documents(
        PATH, config_map("data:\n  a.txt: |\n    192.0.2.1\n    # two\nbinaryData:\n  b: aGVs\n    bG8=")
    )
    assert config_map_content(document) == {"a.txt": b"192.0.2.1\n# two\n", "b": b"hello"}


def test_secret_is_accepted() -> None:
    assert errors("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {key: abc}\n") == []
