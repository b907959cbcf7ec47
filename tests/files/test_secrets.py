"""Secrets in files: read as Kubernetes reads them, allowed by their owner, and shown nowhere."""

import asyncio
import base64
import logging
from pathlib import Path

import pytest
from files.test_operator import POLL_INTERVAL, Events, replace, running
from postwarden_operator.files.documents import read_documents
from postwarden_operator.files.examine import examine
from postwarden_operator.files.operator import FilesOperator, NothingUsable, Problem
from postwarden_operator.files.secret_fields import secret_of
from postwarden_operator.reconcile.world import Secret

PLANTED = "planted7key3of9zone"
OTHER = "another7key3of9zone"
PATH = Path("secret.yaml")
POLICY = """\
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {name: wall}
spec:
  selector: {}
  dnsbl:
    sites:
    - zone: "{key}.zen.dq.spamhaus.net"
      keyFrom: {secretKeyRef: {name: dqs, key: token}}
"""


def secret(fields: str, annotations: str = "{postwarden.dev/used-for: dq.spamhaus.net}") -> str:
    return f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: dqs\n  annotations: {annotations}\n{fields}\n"


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def read(text: str, salt: bytes = b"salt") -> Secret:
    (document,), errors = read_documents(PATH, text)
    assert errors == []
    return secret_of(document.body, salt)


def test_data_is_base64_and_string_data_is_plain_and_goes_first() -> None:
    fields = f"data: {{token: {in_base64(OTHER)}, other: {in_base64('x')}}}\nstringData: {{token: {PLANTED}}}"
    found = read(secret(fields))
    assert (found.data, found.used_for) == (
        {"token": PLANTED.encode(), "other": b"x"},
        "dq.spamhaus.net",
    )
    assert PLANTED not in repr(found)


def test_version_is_another_for_other_content_and_for_another_salt() -> None:
    plain, encoded = (
        secret(f"stringData: {{token: {PLANTED}}}"),
        secret(f"data: {{token: {in_base64(PLANTED)}}}"),
    )
    assert read(plain).version == read(encoded).version
    assert read(plain).version != read(secret(f"stringData: {{token: {OTHER}}}")).version
    assert read(plain).version != read(plain, b"another salt").version


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (f"dat: {{token: {PLANTED}}}", "secret.yaml:6: Secret default/dqs: dat: is no field of a Secret"),
        (f"data: {PLANTED}", "secret.yaml:6: Secret default/dqs: data: must map keys to text"),
        (f"data: {{token: {PLANTED}?}}", "data[token]: is not base64; plain text goes into stringData"),
        ("stringData: {token: 7919791979}", "stringData[token]: must be text: put it in quotes"),
        (f"stringData: {{token: {PLANTED}, token: {OTHER}}}", 'is not YAML: found duplicate key "token"'),
        (f"stringData: {{token: *{PLANTED}}}", "secret.yaml:6: is not YAML: found undefined alias"),
        (f"stringData: {{token: !!int {PLANTED}}}", "is not YAML: a value does not fit its tag"),
    ],
)
def test_bad_secret_is_told_with_its_place_and_without_what_it_holds(fields: str, expected: str) -> None:
    documents, (error,) = read_documents(PATH, secret(fields))
    assert expected in error
    for shown in (error, repr(documents)):
        assert PLANTED not in shown
        assert OTHER not in shown
        assert "7919791979" not in shown


async def test_key_reaches_the_sidecar_and_an_edit_of_the_secret_is_pushed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "policy.yaml"
    file.write_text(f"{POLICY}---\n{secret(f'stringData: {{token: {PLANTED}}}')}")
    async with running(file) as (events, sidecar, _):
        first = await sidecar.apply()
        assert [site.zone for site in first.rules.dnsbl.sites] == [f"{PLANTED}.zen.dq.spamhaus.net"]
        replace(file, f"{POLICY}---\n{secret(f'stringData: {{token: {OTHER}}}')}")
        second = await sidecar.apply()
        assert [site.zone for site in second.rules.dnsbl.sites] == [f"{OTHER}.zen.dq.spamhaus.net"]
        assert second.version != first.version
    seen = repr(events.all) + caplog.text + first.revision + first.version
    assert PLANTED not in seen
    assert OTHER not in seen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "keyFrom.secretKeyRef: Secret dqs does not exist in namespace default"),
        (secret(f"stringData: {{other: {PLANTED}}}"), "Secret dqs has no key token; it has other"),
        (
            secret(f"stringData: {{token: {PLANTED}}}", "{}"),
            "Secret dqs has no annotation postwarden.dev/used-for",
        ),
        (secret(f"stringData: {{token: '{PLANTED} x'}}"), "can't stand in a domain name"),
    ],
)
async def test_secret_that_can_not_be_used_is_told_with_the_policys_line(
    text: str, expected: str, tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(f"{POLICY}---\n{text}")
    with pytest.raises(NothingUsable) as caught:
        FilesOperator([file], report=Events().report).load()
    (error,) = caught.value.errors
    assert error.startswith(f"{file}:9: ScreeningPolicy default/wall: spec.dnsbl.sites[0]")
    assert expected in error
    assert PLANTED not in error
    (examined,) = examine([file])
    assert examined.errors == (error,)


def test_examination_of_files_shows_no_key(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(f"{POLICY}---\n{secret(f'stringData: {{token: {PLANTED}}}')}")
    (examined,) = examine([file])
    assert examined.snapshot is not None
    assert PLANTED not in repr(examined)


async def test_secret_that_is_taken_away_is_told_once_and_the_rules_stay(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(f"{POLICY}---\n{secret(f'stringData: {{token: {PLANTED}}}')}")
    async with running(file) as (events, sidecar, _):
        await sidecar.apply()
        replace(file, POLICY)
        await events.until(lambda event: isinstance(event, Problem))
        await asyncio.sleep(5 * POLL_INTERVAL)
        (problem,) = events.problems()
        assert "Secret dqs does not exist" in problem
