"""What one caller may take, in virtual time."""

import asyncio
from contextlib import ExitStack

import pytest
from postwarden_operator.controlplane.limits import (
    NEW_STREAMS,
    TRANSFERS,
    TRANSFERS_OF_A_POD,
    UNPROVEN_CALLS,
    UNPROVEN_OF_A_CONNECTION,
    CallLimits,
    Pace,
    TooMany,
)


def test_pace_lets_a_burst_through_and_then_so_many_a_second() -> None:
    pace = Pace(burst=3, rate=2)
    assert [pace.take(100.0) for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    assert pace.take(101.0) == 0.5
    assert pace.take(110.0) == 0
    assert not pace.idle(110.0)
    assert pace.idle(111.0)


def test_pod_that_opens_streams_without_end_is_refused_and_others_are_not() -> None:
    limits, refused = CallLimits(), 0
    for _ in range(1000):
        try:
            limits.new_stream("greedy", 5.0)
        except TooMany:
            refused += 1
    assert refused == 1000 - NEW_STREAMS[0]
    limits.new_stream("honest", 5.0)
    limits.new_stream("greedy", 5.0 + 1 / NEW_STREAMS[1])
    with pytest.raises(TooMany, match="too many streams of this pod"):
        limits.new_stream("greedy", 5.0 + 1 / NEW_STREAMS[1])


def test_pods_that_are_gone_are_forgotten() -> None:
    limits = CallLimits()
    for number in range(5 * UNPROVEN_CALLS):
        limits.new_stream(f"pod-{number}", float(number))
    assert len(limits._streams) <= 2 * UNPROVEN_CALLS + 1


def test_calls_that_have_not_proved_who_they_are_are_counted_together() -> None:
    limits = CallLimits()
    entered = [limits.unproven(f"connection {n // 10}") for n in range(UNPROVEN_CALLS)]
    for each in entered:
        each.__enter__()
    with pytest.raises(TooMany), limits.unproven("another"):
        pass
    entered[0].__exit__(None, None, None)
    with limits.unproven("another"):
        pass


def test_connection_that_brings_many_tokens_is_refused_and_others_are_not() -> None:
    limits = CallLimits()
    with ExitStack() as entered:
        for _ in range(UNPROVEN_OF_A_CONNECTION):
            entered.enter_context(limits.unproven("greedy"))
        with pytest.raises(TooMany), limits.unproven("greedy"):
            pass
        with limits.unproven("honest"):
            pass
    assert not limits._unproven


async def test_pod_that_reads_slowly_holds_a_few_transfers_and_no_more() -> None:
    limits, never = CallLimits(), asyncio.Event()
    under_way = 0

    async def transfer(pod: str) -> None:
        nonlocal under_way
        async with limits.transfer(pod):
            under_way += 1
            await never.wait()

    slow = [asyncio.create_task(transfer("slow")) for _ in range(TRANSFERS)]
    await asyncio.sleep(0)
    assert under_way == TRANSFERS_OF_A_POD
    async with asyncio.timeout(1), limits.transfer("honest"):
        pass
    for task in slow:
        task.cancel()
    await asyncio.wait(slow)
    assert not limits._of_pod
    assert not limits._users
