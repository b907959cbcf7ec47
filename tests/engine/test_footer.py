"""The reject footer: names, further lines, and the reply that it goes on with."""

from __future__ import annotations

import pytest
from engine.scene import Scene, make_context, make_rules
from postwarden_sidecar.engine import footer, replies
from postwarden_sidecar.rules.settings import Session

NAMES = {"client_address": "192.0.2.7", "client_port": "40000", "server_name": "mx.example.org"}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("$client_address:$client_port", "192.0.2.7:40000"),
        ("${client_address} $(server_name)", "192.0.2.7 mx.example.org"),
        ("a $$5 note", "a $5 note"),
        ("${nobody}!", "!"),
        ("${client_port?port} ${client_port:none}", "port "),
        ("${nobody?port}${nobody:none}", "none"),
        ("50$", "50$"),
    ],
)
def test_names_are_filled_in(template: str, text: str) -> None:
    assert footer.expand(template, NAMES) == text


@pytest.mark.parametrize(
    ("template", "reply"),
    [
        ("Ask us", b"550-5.5.1 No\r\n550 5.5.1 Ask us\r\n"),
        ("one\\ntwo", b"550-5.5.1 No\r\n550-5.5.1 one\r\n550 5.5.1 two\r\n"),
        ("\\c. More", b"550 5.5.1 No. More\r\n"),
        ("\\c. More\\ntwo", b"550-5.5.1 No. More\r\n550 5.5.1 two\r\n"),
    ],
)
def test_lines_of_a_footer(template: str, reply: bytes) -> None:
    assert replies.with_footer(b"550 5.5.1 No\r\n", template) == reply


def test_a_client_sees_its_own_address() -> None:
    scene = Scene()
    session = Session(reject_footer="You are $client_address, port ${client_port}")
    wire = scene.connect(
        make_context(make_rules(reject=("192.0.2.7",), banner="", session=session)), "192.0.2.7"
    )
    wire.send(b"FOO\r\n")
    assert wire.received.endswith(
        b"502-5.5.2 Error: command not recognized\r\n502 5.5.2 You are 192.0.2.7, port 40000\r\n"
    )
