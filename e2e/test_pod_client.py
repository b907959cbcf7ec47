"""What the client of the cluster's tests tells of a mail: accepted is one whose end was answered with 250, and no other."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from harness import pod_client
from harness.loopback_server import LoopbackServer

REPLIES = (b"220 mx", b"250 mx", b"250 sender", b"250 recipient", b"354 go on", b"250 queued", b"221 bye")


class EndingMta(LoopbackServer):
    """It ends each connection after so many of its replies; the last of them is `last`, if any."""

    def __init__(self, replies: int, last: bytes | None = None) -> None:
        self._replies = REPLIES[:replies] if last is None else (*REPLIES[: replies - 1], last)

    def _accepted(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as said:
            for reply in self._replies:
                client.sendall(reply + b"\r\n")
                line = said.readline()
                while reply.startswith(b"354") and line not in (b".\r\n", b""):
                    line = said.readline()


def first_of_flow(port: int) -> dict[str, object]:
    command = [sys.executable, str(Path(pod_client.__file__)), "flow", "127.0.0.1", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        told: dict[str, object] = json.loads(client.stdout.readline())
        client.stdin.close()
        client.stdout.read()
    return told


@pytest.mark.parametrize("replies", range(len(REPLIES) + 1))
def test_mail_cut_before_its_last_reply_is_not_accepted(replies: int) -> None:
    with EndingMta(replies) as mta:
        told = first_of_flow(mta.port)
    assert told["accepted"] == (replies >= REPLIES.index(b"250 queued") + 1)
    assert bool(told["kind"]) == (replies < len(REPLIES))


@pytest.mark.parametrize("replies", range(1, len(REPLIES)))
def test_mail_that_is_refused_is_not_accepted(replies: int) -> None:
    with EndingMta(replies, b"451 later") as mta:
        told = first_of_flow(mta.port)
    assert not told["accepted"]
    assert told["reply"] == "451 later"
