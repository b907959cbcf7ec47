"""Documents become policies; bad ones get all their errors at once, each with its field path."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy.documents import BAD, GOOD, Bad, access, document
from policy.smtp_documents import SMTP_BAD, SMTP_GOOD
from postwarden_operator.policy import (
    ConfigMapKey,
    FieldError,
    PolicyInvalid,
    ScreeningPolicy,
    config_map_references,
    name_of,
    parse_policy,
)
from postwarden_operator.policy.errors import field_path
from postwarden_operator.policy.model import Access
from postwarden_operator.policy.vocabulary import Mode
from ruamel.yaml import YAML


def errors_of(wrong: dict[str, object], *, strict: bool = True) -> list[str]:
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(wrong, strict=strict)
    return [str(error) for error in caught.value.errors]


def parse(spec: object) -> ScreeningPolicy:
    return parse_policy(document(spec), strict=True)


@pytest.mark.parametrize("spec", [*GOOD.values(), *SMTP_GOOD.values()], ids=[*GOOD, *SMTP_GOOD])
def test_good_document_is_accepted(spec: object) -> None:
    assert parse(spec).metadata.name == "mx"


@pytest.mark.parametrize("bad", [*BAD, *SMTP_BAD], ids=lambda bad: bad.name)
def test_bad_document_is_refused_with_field_path_and_one_sentence(bad: Bad) -> None:
    (error,) = errors_of(document(bad.spec))
    assert error.startswith(f"{bad.field}: ")
    assert bad.message in error
    assert "\n" not in error
    assert not error.endswith(".")


def test_defaults_are_filled_in() -> None:
    spec = parse({"selector": {}}).spec
    assert spec.mode is Mode.ENFORCE
    assert spec.access == Access(my_networks=("127.0.0.0/8", "::1/128"))
    assert (spec.pregreet.wait, spec.pregreet.ttl, spec.pregreet.banner) == ("6s", "24h", None)
    assert spec.upstream is None


def test_upstream_without_port_and_socket_is_smtp_on_loopback() -> None:
    upstream = parse(GOOD["upstream on its default port"]).spec.upstream
    assert upstream is not None
    assert upstream.target_port == 25


def test_all_errors_are_told_at_once_those_across_fields_too() -> None:
    wrong = access({"cidrs": ["10.0.0.1/8", "x"], "listFrom": {"format": "Plane"}}, myNetworks="y")
    assert [error.partition(":")[0] for error in errors_of(document({**wrong, "mod": "Observe"}))] == [
        "spec.access.myNetworks",
        "spec.access.rules[0].cidrs[0]",
        "spec.access.rules[0].cidrs[1]",
        "spec.access.rules[0].listFrom.format",
        "spec.mod",
        "spec.access.rules[0]",
        "spec.access.rules[0].action",
        "spec.access.rules[0].listFrom",
    ]


def test_unknown_fields_are_ignored_where_an_api_server_has_seen_the_document() -> None:
    spec = access({"action": "Permit", "cidrs": ["::1"], "later": 1}, later={"x": 1})
    later = {**document({**spec, "dnsbl": {}}), "later": 1}
    assert (
        parse_policy(later, strict=False).spec == parse(access({"action": "Permit", "cidrs": ["::1"]})).spec
    )


def test_errors_beside_unknown_fields_are_told_without_them() -> None:
    (error,) = errors_of(document({"selector": {}, "later": {}, "mode": "enforce"}), strict=False)
    assert error.startswith("spec.mode: ")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            {"apiVersion": "postwarden.dev/v1"},
            'apiVersion: "postwarden.dev/v1" is not possible here; did you mean postwarden.dev/v1alpha1?',
        ),
        ({"kind": None}, "kind: is missing; write ScreeningPolicy"),
        ({"specs": {}}, "specs: is no known field; did you mean spec?"),
        (
            {"metadata": {"name": "x", "lables": {}}},
            "metadata.lables: is no known field; did you mean labels?",
        ),
        ({"metadata": None}, "metadata: is missing, and it has no default"),
        ({"metadata": {}}, "metadata.name: is missing, and it has no default"),
        (
            {"metadata": {"name": "A"}},
            "metadata.name: \"A\" is no object's name; write lower-case letters, digits, '-' and '.'",
        ),
        (
            {"metadata": {"name": "x", "creationTimestamp": "noon"}},
            'metadata.creationTimestamp: "noon" must be a time like 2026-01-31T12:00:00Z',
        ),
        ({"spec": None}, "spec: is missing, and it has no default"),
    ],
)
def test_wrong_envelope_of_a_file_is_told(change: dict[str, object], error: str) -> None:
    assert errors_of({**document({"selector": {}}), **change}) == [error]


def test_metadata_of_a_stored_object_is_read() -> None:
    stored = document({"selector": {}})
    stored["metadata"] = {
        "name": "mx",
        "namespace": "mail",
        "uid": "u1",
        "generation": 3,
        "creationTimestamp": "2026-01-31T12:00:00Z",
        "managedFields": [{}],
    }
    metadata = parse_policy(stored, strict=True).metadata
    assert (metadata.uid, metadata.generation) == ("u1", 3)
    assert metadata.creation_timestamp is not None
    assert metadata.creation_timestamp.isoformat() == "2026-01-31T12:00:00+00:00"


@pytest.mark.parametrize("kind", ["rt", "safe"])
def test_documents_of_a_yaml_reader_are_read_as_they_come(kind: str) -> None:
    text = """
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {name: mx, creationTimestamp: 2026-01-31T12:00:00Z}
spec:
  selector: {matchLabels: {1: "one"}}
  mode: "Observe"
  upstream: {port: 10_025, handoff: Plain}
"""
    policy = parse_policy(YAML(typ=kind, pure=True).load(text), strict=True)
    assert policy.spec.selector.match_labels == {"1": "one"}
    assert policy.spec.upstream is not None
    assert policy.spec.upstream.target_port == 10025
    assert policy.metadata.creation_timestamp is not None
    assert policy.metadata.creation_timestamp.utcoffset() is not None


def test_references_are_those_of_all_lists() -> None:
    def key(name: str) -> dict[str, object]:
        return {"configMapKeyRef": {"name": name, "key": "k"}}

    policy = parse(
        access(
            {"action": "Permit", "cidrs": ["::1"]},
            {"action": "Permit", "listFrom": key("a")},
            {"listFrom": {"sources": [key("b"), key("a")], "format": "PostfixCIDR"}},
        )
    )
    assert config_map_references(policy) == {ConfigMapKey("a", "k"), ConfigMapKey("b", "k")}


def test_field_paths_are_written_as_kubernetes_does() -> None:
    assert field_path(["spec", "rules", 3, "matchLabels", "app.kubernetes.io/name"]) == (
        "spec.rules[3].matchLabels[app.kubernetes.io/name]"
    )


def test_a_document_is_named_as_far_as_it_goes() -> None:
    assert name_of(document({})) == "mail/mx"
    assert name_of({"metadata": {"name": "mx"}}) == "default/mx"
    assert name_of({"metadata": "mx"}) == "?"


_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["Plain", "6s", "::1", "In"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def damaged_documents(draw: st.DrawFn) -> dict[str, object]:
    """Good documents in which something, somewhere, is something else."""
    whole = document(copy.deepcopy(GOOD[draw(st.sampled_from(sorted(GOOD)))]))
    place: Any = whole
    while True:
        step = draw(st.sampled_from(list(range(len(place)) if isinstance(place, list) else place)))
        if not place[step] or not isinstance(place[step], dict | list) or draw(st.booleans()):
            break
        place = place[step]
    place[step] = draw(_json)
    return whole


@given(damaged_documents(), st.booleans())
def test_whatever_is_wrong_is_told_as_fields_and_sentences(wrong: dict[str, object], strict: bool) -> None:
    for error in told(wrong, strict=strict):
        assert error.field
        assert "\n" not in str(error)
        assert "is not valid: " not in error.message, "an error that has no words of its own"


def told(wrong: dict[str, object], *, strict: bool) -> tuple[FieldError, ...]:
    try:
        parse_policy(wrong, strict=strict)
    except PolicyInvalid as invalid:
        return invalid.errors
    return ()
