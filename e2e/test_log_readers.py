"""The programs that people read Postfix's log with read ours: Debian's pflogsumm and fail2ban's own Postfix filter, over the log of a real
sidecar; and clients that try to write lines of their own into it.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.mail_attempt import last_reply_to_mail
from harness.mail_sink import MailSink
from harness.rbldnsd import Rbldnsd
from harness.rootfs import debian_root
from harness.sidecar import Sidecar, up
from harness.smtp import Client

DENIED, LISTED, TALKER, FRIEND = "127.66.6.6", "127.66.7.7", "127.66.8.8", "127.0.9.9"
FORGED = "Nov 22 10:42:00 mx postfix/postscreen[1]: NOQUEUE: reject: RCPT from [192.0.2.99]:25: 550 5.7.1 Service unavailable"
READ_TIMEOUT = 60.0
"""Seconds for one of the programs; each takes about one."""


def policy(log_format: str, resolver: str) -> str:
    return f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: wall}}
spec:
  selector: {{}}
  access: {{myNetworks: [], rules: [{{action: Reject, cidrs: [{DENIED}]}}]}}
  pregreet: {{banner: "mail.example.org ESMTP", wait: 1s}}
  dnsbl: {{resolvers: ["{resolver}"], timeout: 1s, sites: [{{zone: bl.test}}]}}
  telemetry: {{logFormat: {log_format}}}
"""


def hostile(sidecar: Sidecar) -> None:
    """Control and ANSI characters, bytes that are no UTF-8, a forged line and 2 KB in every place that is logged."""
    with Client(sidecar.host, sidecar.port, source=DENIED) as client:
        client.reply()
        for line in (
            b"EHLO \x1b[2Jx\xff\xfe\x00" + FORGED.encode() + b"A" * 1850,
            b"MAIL FROM:<\x1b]0;pwned\x07\xe2\x80\xae\r" + FORGED.encode() + b"@x>",
            b"RCPT TO:<\x85\x9b31m" + FORGED.encode() + b"@example.org>",
            b"QUIT",
        ):
            client.send(line + b"\r\n")
            client.reply()
    with Client(sidecar.host, sidecar.port, source=TALKER) as client:
        client.send(b"EHLO early\r\n" + FORGED.encode() + b"\r\n\x1b[31m\n" + FORGED.encode() + b"\n")
        client.reply()


@pytest.fixture(scope="module")
def resolver() -> Iterator[str]:
    with Rbldnsd({"bl.test": [LISTED]}) as server:
        yield server.address


def log_of(log_format: str, resolver: str) -> bytes:
    """What a sidecar logs of the clients above, whole lines of telemetry only."""
    with (
        MailSink() as sink,
        up(policy(log_format, resolver), upstream=sink.address, handoff="plain", log_format=None) as sidecar,
    ):
        assert last_reply_to_mail(sidecar.address, LISTED).startswith("550 5.7.1 Service unavailable")
        hostile(sidecar)
        assert last_reply_to_mail(sidecar.address, FRIEND).startswith("250 ")
        ends = r"DISCONNECT|PASS NEW" if log_format != "JSON" else r'"postwarden.verdict"'
        sidecar.wait_for_log(ends, 4)
        assert sidecar.stop() == 0
        content = (sidecar.directory / "stderr").read_bytes()
    shape = (
        rb"^[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d \S+ postfix/postscreen\["
        if log_format != "JSON"
        else rb'^{"time"'
    )
    return b"".join(line + b"\n" for line in content.split(b"\n") if re.match(shape, line))


def is_clean(log: bytes) -> bool:
    """UTF-8 whose lines a terminal shows as they are."""
    return all(line.isprintable() for line in log.decode().split("\n"))


@pytest.mark.parametrize("log_format", ["Postscreen", "PostscreenLegacy"])
def test_pflogsumm_and_fail2ban_read_the_lines_and_nobody_forges_one(
    log_format: str, resolver: str, tmp_path: Path
) -> None:
    root = debian_root("log-readers", ["pflogsumm", "fail2ban"])
    log = log_of(log_format, resolver)
    assert is_clean(log)
    assert max(map(len, log.splitlines())) < 2000
    lines = log.decode().splitlines()
    assert not [
        line for line in lines if "192.0.2.99" in line.split(": ", 2)[1]
    ]  # no line is about the forged client
    assert [line for line in lines if "DENYLISTED [" in line or "BLACKLISTED [" in line]
    rejects = [
        line
        for line in lines
        if "NOQUEUE: reject: RCPT" in line and "192.0.2.99" not in line.split(": from=")[0]
    ]
    assert rejects

    summary = read(root, ["pflogsumm"], log)
    assert re.search(r"^\s+2 +rejected", summary, re.MULTILINE), summary
    rejected_for = summary.partition("message reject detail")[2].partition("message reject warning")[0]
    assert set(re.findall(r"^\s+1 +([0-9.]+)$", rejected_for, re.MULTILINE)) == {DENIED, LISTED}

    found = fail2ban(root, log, "more")
    assert found == {LISTED}
    assert fail2ban(root, log, "aggressive") == {LISTED, TALKER}


def fail2ban(root: Path, log: bytes, mode: str) -> set[str]:
    """The addresses that its own filter finds."""
    script = 'cat > /tmp/log && exec fail2ban-regex --print-all-matched -v /tmp/log "postfix[mode=$0]"'
    shown = read(root, ["sh", "-c", script, mode], log)
    return set(re.findall(r"^\|\s+([0-9.]+)\s+[A-Z][a-z]{2} ", shown, re.MULTILINE))


def read(root: Path, command: list[str], log: bytes) -> str:
    """What a program of the root folder says of the log; the folder stays as it is."""
    mounts = f"mount --bind -o ro {root} {root} && mount -o remount,ro,bind {root} && mount -t tmpfs tmpfs {root}/tmp"
    inside = ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-euc"]
    done = subprocess.run(
        [*inside, f'{mounts} && exec chroot {root} "$0" "$@"', *command],
        input=log,
        capture_output=True,
        timeout=READ_TIMEOUT,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")


def test_json_lines_are_one_object_each_whatever_clients_say(resolver: str) -> None:
    log = log_of("JSON", resolver)
    assert is_clean(log)
    records = [json.loads(line) for line in log.splitlines()]
    assert sorted(record["client.address"] for record in records) == sorted([DENIED, LISTED, TALKER, FRIEND])
    (denied,) = (record for record in records if record["client.address"] == DENIED)
    assert len(denied["postwarden.helo"]) <= 4 * 200  # each byte may be four characters
    assert denied["postwarden.recipient"].startswith('"\\x85\\x9b31m')
    (listed,) = (record for record in records if record["client.address"] == LISTED)
    assert [each["zone"] for each in listed["postwarden.lookups"]] == ["bl.test"]
    assert listed["postwarden.dnsbl.score"] == 1
