"""Proofs over real sockets, against an MTA of every kind."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from loopback_ports import free_port
from postwarden_sidecar.handoff.proof import OPEN_RELAY, PROVED, UNPROVED, WRONG_ANSWER
from postwarden_sidecar.handoff.proxy_header import SIGNATURE_V2
from postwarden_sidecar.rules.settings import Handoff, Upstream
from postwarden_sidecar.supervisor import prober
from supervisor.scripted_mta import ScriptedMta, scripted_mta


async def test_plain_is_proved_and_what_the_mta_offers_is_learned() -> None:
    async with scripted_mta() as mta:
        result = await prober.prove(Upstream(f"127.0.0.1:{mta.port}", Handoff.PLAIN))
    assert (result.state, result.banner, result.ehlo) == (
        PROVED,
        "mx.example.org ESMTP",
        ("SIZE 1000", "DSN"),
    )
    assert mta.commands[-1] == b"QUIT\r\n"


async def test_plain_over_a_unix_socket(tmp_path: Path) -> None:
    mta = ScriptedMta()
    await mta.listen_unix(tmp_path / "mta")
    assert (await prober.prove(Upstream(f"unix:{tmp_path}/mta", Handoff.PLAIN))).state == PROVED
    await mta.close()


async def test_an_mta_that_would_relay_for_the_world_is_an_open_relay() -> None:
    async with scripted_mta(relays=True) as mta:
        result = await prober.prove(Upstream(f"127.0.0.1:{mta.port}", Handoff.PLAIN))
    assert result.state == OPEN_RELAY


@pytest.mark.parametrize(("handoff", "header"), [(Handoff.PROXY_V1, "v1"), (Handoff.PROXY_V2, "v2")])
async def test_proxy_headers_are_proved_with_the_sockets_own_addresses(handoff: Handoff, header: str) -> None:
    async with scripted_mta(header=header) as mta:
        result = await prober.prove(Upstream(f"127.0.0.1:{mta.port}", handoff))
    assert result.state == PROVED
    if header == "v1":
        ((header_line),) = mta.headers
        assert header_line.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
        assert header_line.endswith(b" %d\r\n" % mta.port)
    else:
        local, proxied = mta.headers
        assert local == SIGNATURE_V2 + b"\x20\x00\x00\x00"
        assert proxied.startswith(SIGNATURE_V2 + b"\x21\x11\x00\x0c" + socket.inet_aton("127.0.0.1") * 2)


async def test_pass_gives_the_mta_a_descriptor_to_talk_over(tmp_path: Path) -> None:
    mta = ScriptedMta()
    await mta.listen_pass(tmp_path / "smtpd")
    result = await prober.prove(Upstream(f"unix:{tmp_path}/smtpd", Handoff.PASS))
    await mta.close()
    assert result.state == PROVED
    assert mta.headers[0].startswith(b"client_address\x00127.0.0.1\x00client_port\x00")
    assert mta.commands[0].startswith(b"EHLO ")


@pytest.mark.parametrize("handoff", [Handoff.PROXY_V1, Handoff.PROXY_V2])
async def test_a_header_to_an_mta_that_expects_none_is_a_wrong_answer(handoff: Handoff) -> None:
    async with scripted_mta() as mta:
        result = await prober.prove(Upstream(f"127.0.0.1:{mta.port}", handoff))
    assert result.state == WRONG_ANSWER


async def test_an_mta_that_waits_for_a_header_in_vain_leaves_plain_unproved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prober, "SILENCE", 0.05)
    async with scripted_mta(header="v1") as mta:
        result = await prober.prove(Upstream(f"127.0.0.1:{mta.port}", Handoff.PLAIN))
    assert (result.state, "PROXY" in result.detail) == (UNPROVED, True)


@pytest.mark.parametrize("handoff", list(Handoff))
async def test_no_mta_is_unproved_and_says_where_none_was(handoff: Handoff, tmp_path: Path) -> None:
    target = f"unix:{tmp_path}/none" if handoff is Handoff.PASS else f"127.0.0.1:{free_port()}"
    result = await prober.prove(Upstream(target, handoff))
    assert result.state == UNPROVED
    why = "No such file or directory" if handoff is Handoff.PASS else "Connection refused"
    assert result.detail == f"no connection to the MTA at {target}: {why}"


async def test_an_address_answers_or_does_not() -> None:
    async with scripted_mta() as mta:
        assert await prober.answers("127.0.0.1", mta.port)
        assert not await prober.answers("127.0.0.2", mta.port)
    await asyncio.sleep(0)


async def test_an_mta_that_wants_a_header_is_exposed_where_others_reach_its_port() -> None:
    async with scripted_mta() as mta:
        behind_proxy = Upstream(f"127.0.0.1:{mta.port}", Handoff.PROXY_V2)
        told = await prober.exposed(behind_proxy, "127.0.0.1", ())
        assert told.startswith(f"the MTA's port {mta.port} answers on 127.0.0.1: ")
        # Whoever comes from outside to a redirected port comes to us.
        assert await prober.exposed(behind_proxy, "127.0.0.1", {mta.port}) == ""
        assert await prober.exposed(behind_proxy, "127.0.0.1", {mta.port + 1}) == told
        assert await prober.exposed(behind_proxy, "127.0.0.2", ()) == ""
