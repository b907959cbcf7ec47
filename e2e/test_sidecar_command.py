"""`postwarden-sidecar` as a pod starts it: settings and surroundings that are of no use, and `drain`."""

import http.client
import os
import socket
import subprocess
from pathlib import Path

import pytest
from harness.cluster import ApiServer
from harness.mail_attempt import first_reply
from harness.mail_sink import MailSink
from harness.operator_process import OperatorProcess
from harness.polling import poll
from harness.screening_objects import mail_pod, policy
from harness.sidecar_process import COMMAND, SidecarProcess
from harness.smtp import Client
from loopback_ports import free_ports

UNUSABLE, FAILED = 2, 1
"""Exit statuses: the settings can't be used; the sidecar can't be started with what is there."""

TOKEN_SEEN_WITHIN = 30.0
"""Seconds: the file is looked for again after waits that double from 1 s."""

ZOMBIE, FRIEND = "127.66.6.6", "127.0.9.9"


def run(*arguments: str, **variables: str) -> tuple[int, str]:
    """Exit status, and what was said."""
    done = subprocess.run(
        [COMMAND, *arguments],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def sentence(said: str) -> str:
    """The one sentence that says what is wrong; usage may stand before it."""
    assert "Traceback" not in said
    _, _, error = said.partition("Error: ")
    (line,) = error.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (["--listen=25"], {}, "'25' is not HOST:PORT, as in 127.0.0.1:10025"),
        (
            [],
            {"POSTWARDEN_LISTEN": ":25", "POSTWARDEN_HANDOFF": "proxy"},
            "'proxy' is none of plain, proxy-v1",
        ),
        (["--listen=:25", "--control=operator:8443"], {}, "--control needs --token-file"),
        (
            ["--listen=:25", "--control=operator:8443", "--token-file=/t", "--ca-file=/no/ca.crt"],
            {},
            "--ca-file /no/ca.crt can't be read: No such file or directory",
        ),
        (["--listen=:25", "--drain-timeout=later"], {}, "'later' is no duration"),
        (["--listen=:25", "--frobnicate"], {}, "--frobnicate"),
    ],
)
def test_settings_that_can_not_be_used_end_with_2_and_one_sentence(
    arguments: list[str], variables: dict[str, str], told: str
) -> None:
    status, said = run("run", *arguments, **variables)
    assert status == UNUSABLE
    assert told in sentence(said)


@pytest.mark.parametrize("option", ["--listen", "--health", "--metrics"])
def test_address_in_use_ends_with_one_sentence_that_names_it(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = [f"{option}={address}"]
        if option != "--listen":
            arguments.append(f"--listen=127.0.0.1:{free_ports(1)[0]}")
        status, said = run("run", *arguments)
    assert status == FAILED
    assert address in sentence(said)
    assert "choose another" in sentence(said)


def test_state_directory_that_can_not_be_made_ends_with_one_sentence_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    directory = tmp_path / "file" / "state"
    status, said = run("run", "--listen=127.0.0.1:0", f"--state-dir={directory}")
    assert status == FAILED
    assert f"the state directory {directory} can't be used: Not a directory" in sentence(said)


def test_state_directory_that_can_not_be_written_ends_with_one_sentence_that_names_it() -> None:
    # Not even root makes a file there.
    status, said = run("run", "--listen=127.0.0.1:0", "--state-dir=/proc/sys")
    assert status == FAILED
    assert "/proc/sys" in sentence(said)


@pytest.mark.parametrize(("without_rules", "heard"), [("Pass", "220"), ("Defer", "421 4.3.2")])
def test_missing_token_is_said_and_rules_come_as_soon_as_it_is_there(
    without_rules: str,
    heard: str,
    api_server: ApiServer,
    operator: OperatorProcess,
    namespace: str,
    mail_sink: MailSink,
    tmp_path: Path,
) -> None:
    access = {"myNetworks": [], "rejectAction": "Drop"}
    rules = [{"action": "Reject", "cidrs": ["127.66.0.0/16"]}]
    api_server.apply(policy("wall", namespace, access={**access, "rules": rules}, pregreet={"banner": ""}))
    token = api_server.bound_token(mail_pod(api_server, namespace))
    with SidecarProcess(
        tmp_path,
        upstream=mail_sink.address,
        operator=operator,
        options=[f"--without-rules={without_rules}"],
    ) as sidecar:
        assert f"the token's file {sidecar.token_file} can't be read" in sidecar.log()
        assert first_reply(sidecar.address, ZOMBIE).startswith(heard)
        sidecar.token_file.write_text(token)
        poll(
            lambda: first_reply(sidecar.address, ZOMBIE).startswith("521"),
            TOKEN_SEEN_WITHIN,
            sidecar.log_tail,
        )
        assert first_reply(sidecar.address, FRIEND).startswith("220")


def test_drain_lets_open_sessions_end_and_asks_new_clients_to_come_again(
    mail_sink: MailSink, tmp_path: Path
) -> None:
    with (
        SidecarProcess(tmp_path, upstream=mail_sink.address) as sidecar,
        Client(*sidecar.listen, source=FRIEND) as session,
    ):
        session.greeted()
        draining = subprocess.Popen(
            [COMMAND, "drain", f"--state-dir={sidecar.state_dir}"], env={"PATH": os.environ["PATH"]}
        )
        try:
            poll(lambda: first_reply(sidecar.address, FRIEND).startswith("421 4.3.2"), 10.0, sidecar.log_tail)
            assert sidecar.health("/readyz") == http.client.SERVICE_UNAVAILABLE
            session.deliver("someone@example.org")
            assert draining.poll() is None
            session.expect("QUIT", 221)
            session.close()
            assert draining.wait(10) == 0
        finally:
            draining.kill()
            draining.wait()
        assert mail_sink.recipients == ["someone@example.org"]
        assert sidecar.stop() == 0


def test_drain_without_a_sidecar_says_so(tmp_path: Path) -> None:
    status, said = run("drain", f"--state-dir={tmp_path}")
    assert status == FAILED
    assert f"no sidecar answers at {tmp_path / 'admin.sock'}" in sentence(said)
