"""Keys of DNSBL zones: put into the zone, allowed by the Secret's owner, and seen nowhere else."""

import pytest
from policy.documents import Spec, document
from policy.smtp_documents import KEY_FROM, KEYED, dnsbl
from postwarden_operator.compiler import (
    Compiled,
    CompileFailed,
    Missing,
    NotPermitted,
    SecretContent,
    SecretValue,
    compile_policy,
)
from postwarden_operator.policy import SecretKey, parse_policy, secret_references

PLANTED = "planted7key3of9zone"
TOKEN = SecretKey("dqs", "token")
SPEC = dnsbl(sites=[{"zone": "bl.example.org"}, KEYED])
FIELD = "spec.dnsbl.sites[1].keyFrom.secretKeyRef"


def secret(
    value: str = PLANTED, version: str = "17", used_for: str | None = "dq.spamhaus.net"
) -> SecretValue:
    return SecretValue(value.encode(), version, used_for)


def compiled(content: SecretContent, spec: Spec = SPEC) -> Compiled:
    return compile_policy(parse_policy(document(spec), strict=True), {}, {TOKEN: content})


def failure(content: SecretContent, spec: Spec = SPEC) -> CompileFailed:
    with pytest.raises(CompileFailed) as caught:
        compiled(content, spec)
    return caught.value


def test_policy_names_its_secrets() -> None:
    assert secret_references(parse_policy(document(SPEC), strict=True)) == {TOKEN}


def test_key_stands_in_the_wires_zone_and_nowhere_else_in_the_rules() -> None:
    rules = compiled(secret()).rules
    plain, keyed = rules.dnsbl.sites
    assert (plain.zone, plain.template, plain.label) == ("bl.example.org",) * 3
    assert keyed.zone == f"{PLANTED}.zen.dq.spamhaus.net"
    assert keyed.template == "{key}.zen.dq.spamhaus.net"
    assert keyed.label == "zen.dq.spamhaus.net"
    keyed.zone = ""
    assert PLANTED not in str(rules)


def test_blanks_around_a_key_are_no_part_of_it() -> None:
    assert compiled(secret(f" {PLANTED}\n")).rules.dnsbl.sites[1].zone.startswith(f"{PLANTED}.zen.")


def test_another_version_of_a_secret_is_another_revision_and_another_value_alone_is_not() -> None:
    first = compiled(secret())
    assert compiled(secret(version="18")).revision != first.revision
    assert compiled(secret(value="other")).revision == first.revision


@pytest.mark.parametrize(
    "used_for",
    ["dq.spamhaus.net", "zen.dq.spamhaus.net", "DQ.Spamhaus.NET", ".spamhaus.net", "spamhaus.net."],
)
def test_secret_may_be_used_for_zones_that_end_as_it_says(used_for: str) -> None:
    assert compiled(secret(used_for=used_for)).rules.dnsbl.sites[1].zone.startswith(PLANTED)


@pytest.mark.parametrize(
    "used_for",
    [
        None,
        "",
        " ",
        ".",
        "q.spamhaus.net",
        "example.org",
        "{key}.zen.dq.spamhaus.net",
        "x.zen.dq.spamhaus.net",
    ],
)
def test_secret_is_used_for_nothing_else(used_for: str | None) -> None:
    failed = failure(secret(used_for=used_for))
    (error,) = failed.errors
    assert failed.reason == "RefNotAllowed"
    assert str(error) == (
        f"{FIELD}: Secret dqs has no annotation postwarden.dev/used-for that names an end of"
        " {key}.zen.dq.spamhaus.net, like zen.dq.spamhaus.net; whoever owns the Secret must allow this use of it"
    )


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        (
            Missing(),
            "RefNotFound",
            "Secret dqs does not exist in namespace mail; create it, or correct the name",
        ),
        (Missing(("b", "a")), "RefNotFound", "Secret dqs has no key token; it has a, b"),
        (Missing(()), "RefNotFound", "Secret dqs has no key token; it has none"),
        (NotPermitted(), "RefNotPermitted", "the operator may not read Secret dqs of namespace mail"),
    ],
)
def test_secret_that_can_not_be_read(content: SecretContent, reason: str, message: str) -> None:
    failed = failure(content)
    assert (failed.reason, [error.field for error in failed.errors]) == (reason, [FIELD])
    assert message in failed.errors[0].message


def test_secret_that_no_one_looked_for_counts_as_missing() -> None:
    with pytest.raises(CompileFailed, match="does not exist"):
        compile_policy(parse_policy(document(SPEC), strict=True), {})


@pytest.mark.parametrize("value", ["", f"{PLANTED} x", f"{PLANTED}..x", f"{PLANTED}{'x' * 63}", "{key}", "ä"])
def test_key_that_fits_into_no_name_is_refused_and_not_shown(value: str) -> None:
    failed = failure(secret(value))
    assert failed.reason == "RefNotFound"
    assert "what Secret dqs holds as token can't stand in a domain name" in str(failed)
    assert PLANTED not in str(failed)
    assert PLANTED not in repr(failed)


def test_all_secrets_and_lists_that_fail_are_named_at_once() -> None:
    keyed = {"zone": "{key}.other.example", "keyFrom": KEY_FROM}
    failed = failure(secret(used_for="x.example"), dnsbl(sites=[KEYED, keyed]))
    assert [error.field for error in failed.errors] == [
        f"spec.dnsbl.sites[{index}].keyFrom.secretKeyRef" for index in range(2)
    ]


def test_planted_key_is_in_no_repr_no_hash_and_no_version() -> None:
    result = compiled(secret())
    assert PLANTED not in repr(result) + result.revision + result.version
    assert PLANTED not in repr(secret())
