"""Who watches gets what he asked for, in order, and is told what he was too slow for."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.rules.settings import EnvelopeAddresses
from postwarden_sidecar.supervisor.tail import (
    BATCH,
    CONTROL,
    MAX_READERS,
    QUEUE_LIMIT,
    BadQuery,
    Filter,
    Tail,
    TooManyReaders,
)
from record_strategies import records
from telemetry.samples import passed, record


@pytest.mark.parametrize(
    ("query", "rejected", "let_in"),
    [
        ({}, True, True),
        ({"verdict": ["rejected"]}, True, False),
        ({"verdict": ["rejected", "pass_new"]}, True, True),
        ({"address": ["192.168.0.0/16"]}, True, False),
        ({"address": ["192.168.7.9"]}, True, False),
        ({"address": ["192.168.7.1/16", "2001:db8::1"]}, True, True),  # host bits are no error here
        ({"test": ["access"]}, True, False),
        ({"test": ["pregreet"]}, False, False),  # it passed that one
        ({"verdict": ["rejected"], "address": ["2001:db8::/32"]}, False, False),
    ],
)
def test_a_filter_lets_through_what_meets_each_of_its_three_parts(
    query: dict[str, list[str]], rejected: bool, let_in: bool
) -> None:
    wanted = Filter.of(query)
    assert wanted.wants(record()) is rejected
    assert wanted.wants(passed(client_address="2001:db8::1")) is let_in


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"verdict": ["spam"]}, "verdict: 'spam' is none of allowlisted, pass_old, "),
        ({"test": ["helo"]}, "test: 'helo' is none of access, pregreet, dnsbl, "),
        ({"address": ["mail.example"]}, "address: 'mail.example' is no address or network, as in 192.0.2.1"),
        ({"pod": ["a"]}, "there is no filter 'pod'; there are verdict, address and test"),
    ],
)
def test_what_can_not_be_filtered_by_is_one_sentence(query: dict[str, list[str]], said: str) -> None:
    with pytest.raises(BadQuery) as error:
        Filter.of(query)
    assert str(error.value).startswith(said)


@given(records(), st.sampled_from(["192.0.2.0/24", "::/0", "0.0.0.0/0"]))
def test_any_record_can_be_filtered(made: Record, network: str) -> None:
    Filter.of({"address": [network], "test": ["dnsbl"]}).wants(made)


async def lines(tail: Tail, wanted: Filter, batches: list[list[Record]]) -> list[dict[str, object]]:
    """What a reader gets that reads only when all is over."""
    reader = tail.open(wanted)
    for batch in batches:
        tail.observe(batch)
    tail.end()
    found: list[dict[str, object]] = []
    while said := await reader.next_lines():
        assert said.count(b"\n") <= BATCH + 1
        found += map(json.loads, said.splitlines())
    tail.close(reader)
    return found


async def test_verdicts_come_in_order_and_as_the_log_has_them() -> None:
    found = await lines(Tail(), Filter(), [[record(), passed()], [record(verdict=Verdict.DROPPED)]])
    assert [line["postwarden.verdict"] for line in found] == ["rejected", "pass_new", "dropped"]
    assert found[0]["postwarden.recipient"] == "b@example.org"


async def test_a_slow_reader_loses_the_newest_and_is_told_how_many_and_where() -> None:
    tail = Tail()
    reader = tail.open(Filter())
    tail.observe([record(client_port=port) for port in range(QUEUE_LIMIT + 7)])
    first = (await reader.next_lines()).splitlines()
    assert len(first) == BATCH
    tail.observe([record(client_port=50_000)])
    tail.end()
    rest: list[dict[str, object]] = []
    while said := await reader.next_lines():
        rest += map(json.loads, said.splitlines())
    assert rest[-2:-1] == [{CONTROL: "lost", "records": 7}]
    assert rest[-3]["client.port"] == QUEUE_LIMIT - 1
    assert rest[-1]["client.port"] == 50_000


async def test_what_was_lost_last_is_told_once_the_reader_has_the_rest() -> None:
    found = await lines(Tail(), Filter(), [[record()] * (QUEUE_LIMIT + 3)])
    assert len(found) == QUEUE_LIMIT + 1
    assert found[-1] == {CONTROL: "lost", "records": 3}


async def test_what_a_filter_leaves_out_takes_no_room() -> None:
    found = await lines(
        Tail(), Filter.of({"verdict": ["pass_new"]}), [[record()] * 2 * QUEUE_LIMIT, [passed()]]
    )
    assert [line["postwarden.verdict"] for line in found] == ["pass_new"]


async def test_what_the_policy_keeps_from_being_shown_is_not_shown() -> None:
    (line,) = await lines(Tail(), Filter(), [[record(envelope=EnvelopeAddresses.OMITTED)]])
    assert "example.org" not in json.dumps(line)


async def test_there_is_room_for_a_few_readers_and_for_another_when_one_goes() -> None:
    tail = Tail()
    readers = [tail.open(Filter()) for _ in range(MAX_READERS)]
    with pytest.raises(TooManyReaders, match="8 readers are there already"):
        tail.open(Filter())
    tail.close(readers[0])
    tail.open(Filter())


async def test_a_reader_waits_while_there_is_nothing() -> None:
    tail = Tail()
    reader = tail.open(Filter())
    waiting = asyncio.create_task(reader.next_lines())
    await asyncio.sleep(0)
    assert not waiting.done()
    tail.observe([record()])
    assert json.loads(await waiting)["postwarden.verdict"] == "rejected"
