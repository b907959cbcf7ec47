"""What `postwarden up` says of input that it can't use: one sentence with file, line, field and remedy, exit status 2; and as a live
edit: the same sentence, and the rules before it stay in force."""

import re
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.sidecar import Sidecar, clean_environment, executable, up
from harness.smtp import Client

HEAD = """\
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {name: mail}
spec:
  selector: {}
"""
LISTED = "  access: {rules: [{action: Reject, listFrom: {configMapKeyRef: {name: access, key: list}}}]}\n"
CONFIG_MAP = """\
---
apiVersion: v1
kind: ConfigMap
metadata: {name: access, labels: {postwarden.dev/watch: "true"}}
data:
  list: |
    # who is not wanted
    10.0.0.0/8
    10.0.0.1/33
"""


def rejecting(networks: str) -> str:
    return HEAD + f"  access: {{rules: [{{action: Reject, cidrs: [{networks}]}}]}}\n"


# The text of the policy file, and what must be said of it, after the file's path.
UNUSABLE = {
    "an unknown field": (
        HEAD + "  pregreet: {wiat: 1s}\n",
        ":6: ScreeningPolicy default/mail: spec.pregreet.wiat: is no known field; did you mean wait?",
    ),
    "a network with host bits": (
        rejecting("10.0.0.0/8, 192.168.7.1/16"),
        ":6: ScreeningPolicy default/mail: spec.access.rules[0].cidrs[1]: "
        "192.168.7.1/16 has host bits set; did you mean 192.168.0.0/16?",
    ),
    "IPv4 written as IPv6": (
        rejecting('"::ffff:10.0.0.0/104"'),
        ":6: ScreeningPolicy default/mail: spec.access.rules[0].cidrs[0]: "
        "::ffff:10.0.0.0/104 is IPv4 written as IPv6; did you mean 10.0.0.0/8?",
    ),
    "an empty list": (
        rejecting(""),
        ":6: ScreeningPolicy default/mail: spec.access.rules[0].cidrs: is an empty list; give at least one entry",
    ),
    "an empty list in a ConfigMap": (
        HEAD + LISTED + CONFIG_MAP.partition("  list:")[0] + '  list: ""\n',
        ":6: ScreeningPolicy default/mail: spec.access.rules[0].listFrom: ConfigMap access, key list "
        "is an empty list; give at least one network, or remove the rule",
    ),
    "a missing ConfigMap": (
        HEAD + LISTED,
        ":6: ScreeningPolicy default/mail: spec.access.rules[0].listFrom.configMapKeyRef: "
        "ConfigMap access does not exist in namespace default; create it, or correct the name",
    ),
    "a missing key": (
        HEAD + LISTED.replace("key: list", "key: lost") + CONFIG_MAP,
        ":6: ScreeningPolicy default/mail: spec.access.rules[0].listFrom.configMapKeyRef: "
        "ConfigMap access has no key lost; it has list",
    ),
    "a line of a list that is no network": (
        HEAD + LISTED + CONFIG_MAP,
        ":6: ScreeningPolicy default/mail: spec.access.rules[0].listFrom: ConfigMap access, key list, line 3: "
        '"10.0.0.1/33" is neither an address nor a network; write one like 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32',
    ),
    "no YAML": (
        HEAD + "  access: [\n",
        ":7: is not YAML: expected the node content, but found '<stream end>'",
    ),
    "no Kubernetes object": (
        "hello\n",
        ": document 1: is no Kubernetes object (apiVersion, kind, metadata, …)",
    ),
    "no policy": (CONFIG_MAP, ": no ScreeningPolicy in there"),
    "two mistakes at once": (
        HEAD + "  mode: Off\n" + rejecting("10.1.0.0/8").partition(HEAD)[2],
        ':6: ScreeningPolicy default/mail: spec.mode: "Off" is not possible here; possible: Enforce, Observe',
    ),
}

UPSTREAM = ("--upstream", "127.0.0.1:9", "--handoff", "plain")
"""The discard port: in these tests no client gets so far."""


def start(policy: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`postwarden up`, which must end by itself."""
    return subprocess.run(
        [executable("postwarden"), "up", "-f", policy, *options],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
    )


@pytest.fixture(scope="module")
def first_starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str, str]]:
    """For each of UNUSABLE: its file, stdout and stderr of `up`, which ended with exit status 2. Some at a time, to save time."""
    files = {name: tmp_path_factory.mktemp("unusable") / "policy.yaml" for name in UNUSABLE}

    def started(name: str) -> tuple[Path, str, str]:
        files[name].write_text(UNUSABLE[name][0])
        done = start(files[name], "--listen", "127.0.0.1:0", *UPSTREAM)
        assert done.returncode == 2, done.stderr
        return files[name], done.stdout, done.stderr

    with ThreadPoolExecutor(4) as threads:
        return dict(zip(files, threads.map(started, files), strict=True))


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_first_policy_that_cannot_be_used_ends_it_with_one_sentence(
    name: str, first_starts: dict[str, tuple[Path, str, str]]
) -> None:
    path, output, errors = first_starts[name]
    assert output == ""
    first, *others = errors.splitlines()
    assert first == f"postwarden up: {path}{UNUSABLE[name][1]}"
    assert len(others) == (1 if name == "two mistakes at once" else 0), errors


REJECTED = "127.0.2.1"
FIRST = (
    HEAD
    + f"""\
  access: {{myNetworks: [], rejectAction: Drop, rules: [{{action: Reject, cidrs: [{REJECTED}]}}]}}
  pregreet: {{wait: 200ms}}
"""
)


@pytest.fixture(scope="module")
def serving() -> Iterator[Sidecar]:
    """With FIRST in force."""
    with up(FIRST, *UPSTREAM) as sidecar:
        yield sidecar


def assert_the_first_rules_are_in_force(sidecar: Sidecar) -> None:
    with Client(sidecar.host, sidecar.port, source=REJECTED) as client:
        assert client.line() == "521 5.3.2 Service currently unavailable"


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_edit_that_cannot_be_used_is_reported_and_the_rules_before_it_stay(
    name: str, serving: Sidecar
) -> None:
    text, said = UNUSABLE[name]
    serving.replace_policy(text)
    sentence = f"{serving.policy_file}{said}"
    (line,) = serving.wait_for_log("ERROR .*" + re.escape(sentence))
    assert line == f"postwarden: ERROR {sentence}"
    assert_the_first_rules_are_in_force(serving)
    assert serving.applied() == 0


def test_a_good_edit_after_a_bad_one_is_applied() -> None:
    with up(FIRST, *UPSTREAM) as sidecar:
        sidecar.replace_policy("spec: [\n")
        sidecar.wait_for_log("is not YAML")
        assert_the_first_rules_are_in_force(sidecar)
        sidecar.edit(FIRST.replace(REJECTED, "127.0.3.1"))
        with Client(sidecar.host, sidecar.port, source="127.0.3.1") as client:
            assert client.line() == "521 5.3.2 Service currently unavailable"
        with Client(sidecar.host, sidecar.port, source=REJECTED) as client:
            assert not client.line().startswith("521")


def test_of_two_policies_the_first_by_name_is_in_force_and_the_other_is_reported() -> None:
    second = FIRST.replace("name: mail", "name: another").replace(REJECTED, "127.0.3.1")
    with up(FIRST + "---\n" + second, *UPSTREAM) as sidecar:
        assert "policy=default/another " in sidecar.output()[0]
        sidecar.wait_for_log("default/mail is Conflicted: default/another comes first and is in force")
        with Client(sidecar.host, sidecar.port, source="127.0.3.1") as client:
            assert client.line().startswith("521")
        with Client(sidecar.host, sidecar.port, source=REJECTED) as client:
            assert not client.line().startswith("521")


def test_a_listen_address_in_use_is_named(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(FIRST)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = start(policy, "--listen", address, *UPSTREAM)
    said = f"cannot listen on {address}: another process listens there; stop it or choose another port"
    assert (done.returncode, done.stderr) == (2, f"postwarden up: {said}\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--listen", "localhost"), "'localhost' is not HOST:PORT, as in 127.0.0.1:10025"),
        (("--listen", "::1:2525"), "an IPv6 address is written in brackets, as in [::1]:10025"),
        (("--handoff", "proxy"), "'proxy' is none of plain, proxy-v1, proxy-v2 and pass"),
        (("--upstream", "unix:mta"), "give the socket's absolute path, as in unix:/run/mta.sock"),
        (("--handoff", "pass"), "--handoff pass needs a unix socket: --upstream unix:PATH, not 127.0.0.1:9"),
        (("-f", "/nonexistent/policy.yaml"), "'/nonexistent/policy.yaml' does not exist"),
    ],
)
def test_a_flag_that_cannot_be_used_is_named(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(FIRST)
    done = start(policy, "--listen", "127.0.0.1:0", *UPSTREAM, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "which MTA? Give --upstream, or spec.upstream in default/mail"),
        (
            UPSTREAM[:2],
            "how are clients given to the MTA? Give --handoff, or spec.upstream.handoff in default/mail",
        ),
    ],
)
def test_without_an_upstream_or_a_handoff_it_asks_for_it(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(FIRST)
    done = start(policy, "--listen", "127.0.0.1:0", *options)
    assert (done.returncode, done.stderr) == (2, f"postwarden up: {said}\n")
