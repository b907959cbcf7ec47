"""The admin endpoint of a real sidecar, asked over loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from controlclient.control_server import control_server
from controlclient.snapshots import add_rule, snapshot
from eventually import until
from loopback_ports import free_port
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_sidecar.supervisor import admin
from postwarden_sidecar.supervisor.settings import SidecarSettings, WithoutRules
from postwarden_sidecar.supervisor.tail import MAX_READERS
from supervisor.scripted_mta import scripted_mta
from supervisor.sidecars import Sidecar, plain, sidecar, visit

PLANTED = "s3cr3t-k3y"


class Admin:
    """A client of the endpoint."""

    def __init__(self, session: aiohttp.ClientSession, running: Sidecar) -> None:
        self.session = session
        self.running = running

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, object]]:
        async with self.session.get(path, headers=headers) as answer:
            text = await answer.text()
            assert text.endswith("\n")
            return answer.status, json.loads(text)

    @asynccontextmanager
    async def tail(self, query: str = "") -> AsyncIterator[aiohttp.StreamReader]:
        async with self.session.get(f"/tail{query}") as answer:
            assert answer.status == 200
            assert json.loads(await answer.content.readline()) == {"postwarden.tail": "begins"}
            yield answer.content


@asynccontextmanager
async def asked(running: Sidecar, port: int) -> AsyncIterator[Admin]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield Admin(session, running)


@asynccontextmanager
async def unmanaged(without_rules: WithoutRules = WithoutRules.PASS) -> AsyncIterator[Admin]:
    """A sidecar without an operator."""
    port = free_port()
    async with (
        scripted_mta() as mta,
        sidecar(flags=plain(mta.port), admin=("127.0.0.1", port), without_rules=without_rules) as running,
        asked(running, port) as asks,
    ):
        yield asks


@asynccontextmanager
async def managed(tmp_path: Path) -> AsyncIterator[Admin]:
    """A sidecar with two workers and rules of an operator: 127.0.0.0/8 is dropped, and a list needs a key."""
    port = free_port()
    message = snapshot("v1", "n1")
    add_rule(message, [("127.0.0.0/8", 2, 7)])
    message.rules.dnsbl.CopyFrom(
        pb.Dnsbl(action=pb.ACTION_ENFORCE, threshold=1, timeout_ms=1000, ttl_min_ms=1000, ttl_max_ms=1000)
    )
    message.rules.dnsbl.sites.add(
        zone=f"{PLANTED}.bl.example.org.", template="{key}.bl.example.org", weight=1, label="bl.example.org"
    )
    async with (
        control_server(tmp_path) as operator,
        scripted_mta() as mta,
        sidecar(
            ready=False,
            flags=plain(mta.port),
            control=operator.target,
            admin=("127.0.0.1", port),
            workers=2,
            resolver=("127.0.0.1", free_port()),
        ) as running,
        asked(running, port) as asks,
    ):
        stream = await operator.stream()
        stream.snapshot(message)
        assert await stream.next("ack") == pb.Ack(nonce="n1", version="v1")
        await running.supervisor.wait_ready()
        yield asks


async def test_tail_shows_verdicts_as_they_come(tmp_path: Path) -> None:
    async with managed(tmp_path) as asks, asks.tail() as all_lines, asks.tail("?verdict=pass_new") as none:
        async with visit(asks.running) as client:
            assert (await client.reply()).startswith("521")
        line = json.loads(await all_lines.readline())
        assert line["postwarden.verdict"] == "dropped"
        assert line["postwarden.reason"] == "127.0.0.1 is rejected by spec.access.rules[0], line 7"
        await asks.running.supervisor.stop()
        assert await all_lines.read() == await none.read() == b""  # a stop ends it, and is not held up by it


async def test_a_silent_tail_says_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "HEARTBEAT", 0.05)
    async with unmanaged() as asks, asks.tail() as lines:
        assert json.loads(await lines.readline()) == {"postwarden.tail": "alive"}


async def test_there_are_places_for_a_few_readers_and_who_goes_gives_his_free() -> None:
    async with unmanaged() as asks:
        readers = [await asks.session.get("/tail") for _ in range(MAX_READERS)]
        assert await asks.get("/tail") == (503, {"error": "8 readers are there already: end one of them"})
        readers[0].close()
        tail = asks.running.supervisor._tail
        await until(lambda: len(tail._readers) < MAX_READERS)
        async with asks.tail():
            pass
        for reader in readers:
            reader.close()


async def test_rules_tell_the_policy_and_each_worker_and_no_key(tmp_path: Path) -> None:
    async with managed(tmp_path) as asks:
        status, found = await asks.get("/rules")
        assert status == 200
        assert found["policy"] == {
            "namespace": "mail",
            "name": "inbound",
            "uid": "uid",
            "generation": 3,
            "revision": "rev-v1",
            "version": "v1",
        }
        workers, rules = found["workers"], found["rules"]
        assert isinstance(workers, list)
        assert isinstance(rules, dict)
        pids = asks.running.supervisor.worker_pids
        assert workers == [
            {"index": index, "pid": pids[index], "ready": True, "inForce": True} for index in range(2)
        ]
        assert rules["access"]["rules"] == [
            {"field": "spec.access.rules[0]", "table": ["127.0.0.0/8 Reject, line 7"]}
        ]
        assert rules["dnsbl"]["sites"][0]["template"] == "{key}.bl.example.org"
        for path in ("/rules", "/explain?address=127.0.0.1", "/explain?address=192.0.2.1"):
            assert PLANTED not in json.dumps(await asks.get(path))


async def test_explain_says_what_becomes_of_an_address(tmp_path: Path) -> None:
    async with managed(tmp_path) as asks:
        status, found = await asks.get("/explain?address=127.9.9.9")
        assert status == 200
        assert found["policy"] is not None
        assert found["steps"] == [
            "access list: rejected by spec.access.rules[0], line 7: turned away at once with 521"
        ]
        _, found = await asks.get("/explain?address=::ffff:192.0.2.1")
        assert found["address"] == "192.0.2.1"
        assert found["passes"] == {}
        assert isinstance(found["steps"], list)
        assert "passes: it holds none that is valid" in found["steps"]
        passes = asks.running.supervisor._passes
        assert passes is not None
        await passes.store.put("192.0.2.1", {"dnsbl": 4_000_000_000.0}, 0.0)
        _, found = await asks.get("/explain?address=192.0.2.1")
        assert found["passes"] == {"dnsbl": "2096-10-02T07:06:40Z"}


@pytest.mark.parametrize(
    ("without", "said"), [("Pass", "handed to the MTA"), ("Defer", "told to come back (421)")]
)
async def test_without_rules_it_says_what_everybody_gets(without: str, said: str) -> None:
    async with unmanaged(without_rules=WithoutRules(without)) as asks:
        _, found = await asks.get("/explain?address=192.0.2.1")
        assert found["steps"] == [f"no policy is in force: every client is {said}"]
        _, found = await asks.get("/rules")
        assert (found["policy"], found["rules"], found["operator"]) == (None, None, "away")
        assert found["upstream"] is not None
        assert found["handoff"] == {"state": "Proved", "detail": ""}


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/tail?verdict=spam", 400, "verdict: 'spam' is none of "),
        ("/explain", 400, "which address? Ask /explain?address=192.0.2.1"),
        ("/explain?address=mail.example", 400, "address: 'mail.example' is not an IP address"),
        ("/", 404, "there are /tail, /explain and /rules"),
    ],
)
async def test_what_can_not_be_answered_is_one_sentence(path: str, status: int, said: str) -> None:
    async with unmanaged() as asks:
        found, answer = await asks.get(path)
        assert found == status
        assert str(answer["error"]).startswith(said)


async def test_it_only_reads_and_answers_to_no_name_of_others() -> None:
    async with unmanaged() as asks:
        async with asks.session.post("/rules") as answer:
            assert answer.status == 405
        found, said = await asks.get("/rules", Host="rebound.example")
        assert (found, said) == (403, {"error": "this endpoint answers to the name localhost only"})
        found, _ = await asks.get("/rules", Host="localhost:10028")
        assert found == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "mail.example"])
def test_it_is_on_loopback_or_not_at_all(host: str) -> None:
    with pytest.raises(ValueError, match="the admin endpoint answers on loopback only"):
        SidecarSettings(listen=("127.0.0.1", 0), admin=(host, 10028))
    assert SidecarSettings(listen=("127.0.0.1", 0), admin=("::1", 10028)).admin
