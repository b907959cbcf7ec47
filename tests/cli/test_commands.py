"""The command line without a running system: help, options, explain, check, schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from postwarden_cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
EXAMPLE = str(ROOT / "examples/policy.yaml")

BAD_POLICY = """\
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {name: bad}
spec:
  selector: {}
  access:
    rules:
    - action: Reject
      cidrs: [10.0.0.1/8]
    - {action: Permit, cidrs: ["::ffff:192.0.2.1/128"]}
"""


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(arguments), prog_name="postwarden")
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert "Example" in out
    assert f"postwarden {name}" in out


def test_the_list_of_commands_says_what_the_commands_are_for() -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)


def test_an_unknown_command_is_exit_code_2() -> None:
    code, _, err = run("frobnicate")
    assert code == 2
    assert "No such command 'frobnicate'" in err


@pytest.mark.parametrize(
    ("address", "steps"),
    [
        ("192.168.0.1", ["permitted by spec.access.rules[0]"]),
        (
            "192.168.7.7",
            ["rejected by spec.access.rules[1]: refused at RCPT with 550", "waits 6 s for the greeting"],
        ),
        ("198.51.100.9", ["rejected by spec.access.rules[2], line 3"]),
        ("2001:db8::7", ["rejected by spec.access.rules[2], line 4"]),
        ("203.0.113.1", ["no line has it", "waits 6 s"]),
        ("127.0.0.9", ["permitted by spec.access.myNetworks"]),
    ],
)
def test_explain_says_what_becomes_of_an_address_and_which_line_says_so(
    address: str, steps: list[str]
) -> None:
    code, out, _ = run("explain", "-f", EXAMPLE, address)
    assert code == 0
    explained = json.loads(out)
    assert explained["policy"] == "default/mail"
    assert all(expected in step for expected, step in zip(steps, explained["steps"], strict=False))


def test_explain_refuses_what_is_no_address() -> None:
    code, _, err = run("explain", "-f", EXAMPLE, "mail.example.org")
    assert code == 2
    assert "'mail.example.org' is not an IP address" in err


def test_check_accepts_the_example() -> None:
    code, out, err = run("check", "-f", EXAMPLE)
    assert (code, err) == (0, "")
    (policy,) = json.loads(out)
    assert policy["policy"] == "default/mail"
    assert [rule["intervals"] for rule in policy["rules"]] == [1, 1, 3]


@pytest.mark.parametrize(
    ("trusted", "rules", "named"),
    [
        ("[10.1.0.0/24]", "[]", ["10.1.0.0/24"]),
        ("[10.1.0.0/24]", "[{action: Permit, cidrs: [10.1.0.7/32]}]", []),
        ("[10.1.0.0/24]", "[{action: Permit, cidrs: [10.0.0.0/8]}]", []),
        (
            "[10.1.0.0/24]",
            "[{action: Dunno, cidrs: [10.1.0.0/16]}, {action: Permit, cidrs: [10.0.0.0/8]}]",
            ["10.1.0.0/24"],
        ),
        ("[10.1.0.0/24, 2001:db8::/64]", "[{action: Permit, cidrs: [10.1.0.0/25]}]", ["2001:db8::/64"]),
        ("[127.0.0.0/8]", "[]", []),  # of myNetworks
        ("[]", "[]", []),
    ],
)
def test_check_warns_of_a_balancer_that_would_be_screened(
    tmp_path: Path, trusted: str, rules: str, named: list[str]
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        f"""\
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: wall}}
spec:
  selector: {{}}
  listener: {{proxyProtocol: {{trusted: {trusted}}}}}
  access: {{rules: {rules}}}
"""
    )
    code, _, err = run("check", "-f", str(policy))
    assert code == 0
    assert err.splitlines() == [
        "warning: default/wall: spec.listener.proxyProtocol.trusted: the access list permits no address of "
        f"{network}, so the balancer's own probes are screened; permit its addresses in spec.access.rules"
        for network in named
    ]


def test_check_names_every_error_with_its_field_path(tmp_path: Path) -> None:
    policy = tmp_path / "bad.yaml"
    policy.write_text(BAD_POLICY)
    code, _, err = run("check", "-f", str(policy))
    assert code == 1
    assert "spec.access.rules[0].cidrs[0]" in err
    assert "10.0.0.0/8" in err
    assert "spec.access.rules[1].cidrs[0]" in err


def test_schema_prints_what_is_committed() -> None:
    crd = ROOT / "crds/postwarden.dev_screeningpolicies.yaml"
    assert run("schema", "--format", "crd")[1] == crd.read_text()
    assert json.loads(run("schema")[1]) == json.loads((ROOT / "crds/screeningpolicy.schema.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-f", EXAMPLE, "--listen", "127.0.0.1:0"], "which MTA? Give --upstream"),
        (["-f", EXAMPLE, "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:9"], "Give --handoff"),
        (
            ["-f", EXAMPLE, "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:9", "--handoff", "pass"],
            "--handoff pass needs a unix socket",
        ),
        (["-f", EXAMPLE, "--listen", "127.0.0.1"], "is not HOST:PORT"),
        (["-f", "/nonexistent", "--listen", "127.0.0.1:0"], "'/nonexistent' does not exist"),
        (["--listen", "127.0.0.1:0"], "Missing option '-f'"),
    ],
)
def test_up_refuses_unusable_arguments_with_exit_code_2(arguments: list[str], sentence: str) -> None:
    code, out, err = run("up", *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
