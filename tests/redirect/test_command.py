"""`postwarden-sidecar init-redirect`: its options, and its sentences for what a node can lack."""

import pytest
from click.testing import CliRunner
from postwarden_sidecar.cli import main
from postwarden_sidecar.redirect.nft import CLASH, NO_NET_ADMIN, NO_NFTABLES, explanation

LISTEN, HEALTH = "--listen=:10025", "--health=:10026"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([LISTEN], "Missing option '--port'"),
        (["--port=25"], "Missing option '--listen'"),
        (["--port=0", LISTEN], "0 is not in the range 1<=x<=65535"),
        (["--port=smtp", LISTEN], "'smtp' is not a valid integer range"),
        (
            ["--port=25", "--listen=127.0.0.1:10025"],
            "--listen is on loopback, where nobody from outside is taken to: listen on all addresses, as in :10025",
        ),
        (["--port=25", "--listen=:0"], "--listen has the port 0: name the one that the sidecar listens on"),
        (
            ["--port=10025", LISTEN],
            "port 10025 is the sidecar's own (--listen): it can't be redirected",
        ),
        (["--port=25", LISTEN, "--proof-port=10029"], "--proof-port needs --health, where it leads to"),
        (
            ["--port=25", LISTEN, "--health=[::1]:10026", "--proof-port=10029"],
            "--health is on loopback",
        ),
        (
            ["--port=25", LISTEN, HEALTH, "--proof-port=25"],
            "--proof-port 25 is the MTA's: name a port on which nothing listens",
        ),
        (
            ["--port=25", LISTEN, HEALTH, "--proof-port=10026"],
            "port 10026 is the sidecar's own (--health): it can't be redirected",
        ),
    ],
)
def test_options_that_can_not_be_used_end_with_2_and_one_sentence(
    arguments: list[str], sentence: str
) -> None:
    result = CliRunner().invoke(main, ["init-redirect", *arguments])
    assert result.exit_code == 2
    assert sentence in " ".join(result.output.split())


def test_options_come_from_variables_as_injected_pods_have_them() -> None:
    variables = {
        "POSTWARDEN_LISTEN": ":10025",
        "POSTWARDEN_HEALTH": ":10026",
        "POSTWARDEN_REDIRECT_PORT": "25 2525",
        "POSTWARDEN_REDIRECT_PROOF_PORT": "10029",
    }
    result = CliRunner().invoke(main, ["init-redirect", "--dry-run"], env=variables)
    assert result.exit_code == 0
    assert "map { 25 : 10025, 2525 : 10025, 10029 : 10026 }" in result.output


def test_health_on_loopback_is_no_matter_without_a_proof_port() -> None:
    arguments = ["init-redirect", "--port=25", LISTEN, "--health=127.0.0.1:10026", "--dry-run"]
    assert CliRunner().invoke(main, arguments).exit_code == 0


def test_a_program_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = CliRunner().invoke(main, ["init-redirect", "--port=25", LISTEN])
    assert result.exit_code == 1
    assert "clients can't be redirected: there is no program `nft` here: use the sidecar's own image" in (
        result.output
    )


def test_help_has_examples() -> None:
    assert "Examples" in CliRunner().invoke(main, ["init-redirect", "--help"]).output


@pytest.mark.parametrize(
    ("said", "net_admin", "why"),
    [
        # nft 1.0.6 said so: without the capability; and without nfnetlink in the kernel, as its source has it.
        ("netlink: Error: cache initialization failed: Operation not permitted\n", False, NO_NET_ADMIN),
        (
            "netlink.c:62: Unable to initialize Netlink socket: Protocol not supported\n",
            True,
            NO_NFTABLES,
        ),
        # The kernel's answers to a chain of type nat, and to `fib`, which it does not have.
        (
            "/dev/stdin:4:8-14: Error: Could not process rule: No such file or directory\n\tchain clients {\n",
            True,
            NO_NFTABLES,
        ),
        ("/dev/stdin:4:8-14: Error: Could not process rule: Operation not supported\n", True, NO_NFTABLES),
        # Linux before 4.18, where iptable_nat has the hooks.
        ("/dev/stdin:4:8-14: Error: Could not process rule: Device or resource busy\n", True, CLASH),
    ],
)
def test_what_a_node_lacks_is_told_with_what_to_do_and_nfts_own_words(
    said: str, net_admin: bool, why: str
) -> None:
    explained = explanation(said, net_admin=net_admin)
    assert explained == f"{why} (nft says: {said.splitlines()[0]})"


def test_what_nobody_foresaw_is_told_in_nfts_own_words() -> None:
    explained = explanation("Error: Could not process rule: Out of memory\n", net_admin=True)
    assert (
        explained
        == "the kernel did not take the rules: nft says 'Error: Could not process rule: Out of memory'"
    )
