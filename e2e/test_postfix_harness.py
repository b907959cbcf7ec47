"""The harness's own Postfix, milter and namespaces do what tests of the sidecar rely on."""

import array
import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest
from harness.milter import Envelope, Milter
from harness.netns import NetworkNamespace, require_namespaces
from harness.polling import poll
from harness.postfix import Postfix

CLIENT = "203.0.113.5"
PORT = 54321

StartPostfix = Callable[..., Postfix]


def mail_to(user: str, subject: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "alice@client.example"
    mail["To"] = f"{user}@example.org"
    mail["Subject"] = subject
    mail.set_content("Dear Bob,\n\n.a line that begins with a dot\n")
    return mail


async def send(postfix: Postfix, user: str, subject: str) -> None:
    await aiosmtplib.send(
        mail_to(user, subject), hostname=postfix.host, port=postfix.port, start_tls=False, timeout=10
    )


def send_with_swaks(swaks: str, postfix: Postfix, *options: str, to: str = "bob@example.org") -> None:
    addresses = ("--from", "alice@client.example", "--to", to, "--helo", "client.example")
    subprocess.run(
        [swaks, "--server", postfix.address, *addresses, "--timeout", "10", *options],
        check=True,
        capture_output=True,
        timeout=30,
    )


def processes_in(directory: Path) -> list[str]:
    """The commands of all processes whose command line or root names the directory of a Postfix."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                root = str((entry / "root").readlink())
            except OSError:
                continue
            if str(directory) in words or str(directory) in root:
                found.append(words)
    return found


def links_of(pid: int) -> list[str]:
    """The network interfaces of the machine that the test run `pid` has made."""
    return [link.name for link in Path("/sys/class/net").iterdir() if link.name.startswith(f"pw{pid}n")]


def mounts_naming(directory: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(directory) in line]


async def test_a_mail_sent_with_aiosmtplib_arrives_unchanged(start_postfix: StartPostfix) -> None:
    postfix = start_postfix()
    await send(postfix, "bob", "hello")
    (mail,) = postfix.wait_for_mail("bob")
    assert mail["Subject"] == "hello"
    assert mail.get_content() == "Dear Bob,\n\n.a line that begins with a dot\n"
    assert "[127.0.0.1]" in mail["Received"]
    assert postfix.mailbox("carol") == []
    poll(lambda: not postfix.queue(), 5, lambda: f"left in the queue: {postfix.queue()}")


def test_a_mail_sent_with_swaks_arrives_and_the_milter_sees_its_sender(
    start_postfix: StartPostfix, milter: Milter, swaks: str
) -> None:
    postfix = start_postfix(milters=[milter])
    send_with_swaks(swaks, postfix, to="bob@example.org,carol@example.org")
    for user in ("bob", "carol"):
        (mail,) = postfix.wait_for_mail(user)
        assert mail["X-Mailer"].startswith("swaks")
    (connection,) = milter.connections
    assert (connection.address, connection.helo) == ("127.0.0.1", "client.example")
    recipients = ["<bob@example.org>", "<carol@example.org>"]
    assert connection.mails == [Envelope("<alice@client.example>", recipients)]


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_proxy_header_s_address_is_in_the_mail_the_log_and_the_milter(
    start_postfix: StartPostfix, milter: Milter, swaks: str, version: str
) -> None:
    postfix = start_postfix(handoff="proxy", milters=[milter])
    announced = ("--proxy-family", "TCP4" if version == "1" else "AF_INET", "--proxy-source", CLIENT)
    ports = ("--proxy-source-port", str(PORT), "--proxy-dest", "192.0.2.25", "--proxy-dest-port", "25")
    protocol = () if version == "1" else ("--proxy-protocol", "STREAM")
    send_with_swaks(swaks, postfix, "--proxy-version", version, *announced, *protocol, *ports)
    (mail,) = postfix.wait_for_mail("bob")
    assert f"[{CLIENT}]" in mail["Received"]
    assert f"connect from unknown[{CLIENT}]" in postfix.wait_for_log("connect from")
    assert [(seen.address, seen.port) for seen in milter.connections] == [(CLIENT, PORT)]


def test_without_the_proxy_header_it_waits_for_no_one_is_greeted(start_postfix: StartPostfix) -> None:
    postfix = start_postfix(handoff="proxy", settings={"smtpd_upstream_proxy_timeout": "1s"})
    with socket.create_connection((postfix.host, postfix.port), timeout=10) as client:
        client.sendall(b"EHLO client.example\r\n")
        assert not client.recv(1000).startswith(b"220")


def hand_over(path: Path, descriptor: int) -> None:
    """Give an open connection to smtpd, as Postfix's own postscreen does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.settimeout(10)
        control.connect(str(path))
        control.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])
        attributes = ["client_address", CLIENT, "client_port", str(PORT)]
        attributes += ["server_address", "192.0.2.25", "server_port", "25"]
        control.sendall(b"".join(word.encode() + b"\0" for word in attributes) + b"\0")
        assert control.recv(1) == b""


def test_a_descriptor_passed_to_its_socket_is_served_with_the_address_that_came_with_it(
    start_postfix: StartPostfix, milter: Milter
) -> None:
    postfix = start_postfix(handoff="pass", milters=[milter])
    client, passed = socket.socketpair()
    with client, passed:
        client.settimeout(10)
        hand_over(postfix.pass_socket, passed.fileno())
        assert client.recv(1000).startswith(b"220 mail.example.com ")
        client.sendall(b"QUIT\r\n")
        assert client.recv(1000).startswith(b"221 ")
    postfix.wait_for_log(rf"connect from unknown\[{re.escape(CLIENT)}\]")
    assert [(seen.address, seen.port) for seen in milter.connections] == [(CLIENT, PORT)]


async def test_two_run_side_by_side_and_know_nothing_of_each_other(start_postfix: StartPostfix) -> None:
    first, second = start_postfix(), start_postfix(hostname="other.example.com")
    assert first.port != second.port
    await send(first, "bob", "to the first")
    await send(second, "bob", "to the second")
    assert [mail["Subject"] for mail in first.wait_for_mail("bob")] == ["to the first"]
    assert [mail["Subject"] for mail in second.wait_for_mail("bob")] == ["to the second"]


def recipient_reply(postfix: Postfix, recipient: str) -> str:
    async def ask() -> str:
        async with aiosmtplib.SMTP(
            hostname=postfix.host, port=postfix.port, start_tls=False, timeout=10
        ) as client:
            await client.mail("alice@client.example")
            try:
                reply = await client.rcpt(recipient)
            except aiosmtplib.SMTPRecipientRefused as refused:
                return f"{refused.code} {refused.message}"
            return f"{reply.code} {reply.message}"

    return asyncio.run(ask())


def test_it_relays_only_when_told_to_and_then_nothing_leaves(start_postfix: StartPostfix, swaks: str) -> None:
    assert recipient_reply(start_postfix(), "x@elsewhere.example").startswith("554 5.7.1 ")
    relay = start_postfix(mynetworks=["127.0.0.0/8"])
    send_with_swaks(swaks, relay, to="x@elsewhere.example")
    relay.wait_for_log("to=<x@elsewhere.example>.*status=deferred")
    (entry,) = relay.queue()
    assert entry["sender"] == "alice@client.example"


def test_only_the_named_users_exist(start_postfix: StartPostfix) -> None:
    postfix = start_postfix(users=["bob"])
    assert recipient_reply(postfix, "bob@example.org").startswith("250 ")
    assert recipient_reply(postfix, "carol@example.org").startswith("550 5.1.1 ")


async def test_mail_log_and_port_outlive_a_restart_and_a_reload_changes_settings(
    start_postfix: StartPostfix,
) -> None:
    postfix = start_postfix()
    port = postfix.port
    await send(postfix, "bob", "before")
    postfix.wait_for_mail("bob")
    postfix.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((postfix.host, port), timeout=10)
    postfix.start()
    assert postfix.port == port
    await send(postfix, "bob", "after")
    assert [mail["Subject"] for mail in postfix.wait_for_mail("bob", 2)] == ["before", "after"]
    postfix.reload({"smtpd_banner": "$myhostname a new banner"})
    with socket.create_connection((postfix.host, port), timeout=10) as client:
        assert client.recv(1000) == b"220 mail.example.com a new banner\r\n"


def test_a_setting_that_postfix_refuses_is_told_with_its_words(start_postfix: StartPostfix) -> None:
    with pytest.raises((RuntimeError, TimeoutError), match="inet_protocols"):
        start_postfix(settings={"inet_protocols": "ipv5"})


def test_clients_with_addresses_of_their_own_reach_it_from_another_namespace(
    start_postfix: StartPostfix, milter: Milter
) -> None:
    with NetworkNamespace() as clients, NetworkNamespace() as servers:
        clients.link(servers, ["192.168.0.1/16", "192.168.7.7/16"], ["192.168.255.1/16"])
        start_postfix(listen="192.168.255.1:25", network=servers, milters=[milter])
        for address in ("192.168.0.1", "192.168.7.7"):
            client = clients.call(socket.create_connection, ("192.168.255.1", 25), 10, (address, 0))
            with client:
                assert client.recv(1000).startswith(b"220 ")
        assert [seen.address for seen in milter.connections] == ["192.168.0.1", "192.168.7.7"]


def test_nothing_is_left_of_a_postfix_or_a_namespace_after_their_blocks(postfix_root: Path) -> None:
    with NetworkNamespace(["192.0.2.1/32", "2001:db8::1/128"]) as network:
        network.link_to_host(["198.18.77.2/31"], ["198.18.77.3/31"])
        assert len(links_of(os.getpid())) == 1
        assert network.run(["ip", "-brief", "address", "show", "lo"]).stdout.split()[2:] != []
        program = network.popen(["sleep", "1000"])
        with Postfix(postfix_root, listen="192.0.2.1:25", network=network) as postfix:
            directory = postfix.directory
            assert len(processes_in(directory)) >= 3
        assert processes_in(directory) == []
        assert mounts_naming(directory) == []
        assert not directory.exists()
    assert program.wait(5) == -signal.SIGKILL
    assert links_of(os.getpid()) == []


def test_nothing_runs_on_when_the_test_run_is_killed(postfix_root: Path, tmp_path: Path) -> None:
    require_namespaces()
    script = textwrap.dedent("""
        import pathlib, sys, time
        from harness.netns import NetworkNamespace
        from harness.postfix import Postfix
        with NetworkNamespace() as network, Postfix(pathlib.Path(sys.argv[1]), network=network) as postfix:
            network.link_to_host(["198.18.77.4/31"], ["198.18.77.5/31"])
            print(postfix.directory, flush=True)
            time.sleep(100)
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(postfix_root)], env=environment, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        directory = Path(run.stdout.readline().strip())
        assert len(processes_in(directory)) >= 3
        assert len(links_of(run.pid)) == 1
        run.kill()
    poll(lambda: not processes_in(directory), 5, lambda: f"still running: {processes_in(directory)}")
    poll(lambda: not links_of(run.pid), 5, lambda: "the veth pair is still there")
