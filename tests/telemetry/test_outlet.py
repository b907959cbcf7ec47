"""What waits for an OTLP endpoint: batches, the count of what was lost, and rest where nothing works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from postwarden.telemetry.health import Health
from postwarden.telemetry.outlet import BATCH_SIZE, DELAY, QUEUE_LIMIT, TRIAL_SIZE, Outlet, batch_delays

AT_ONCE = 0.001  # seconds


@pytest.fixture
def health() -> Iterator[Health]:
    health = Health("http://collector:4317", time.monotonic)
    yield health
    health.close()


class Endpoint:
    """Takes batches of numbers while it works."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.works = True
        self.asked = threading.Condition()

    def send(self, items: Sequence[int]) -> bool:
        with self.asked:
            self.batches.append(list(items))
            self.asked.notify()
        return self.works

    def wait(self, until: Callable[[], bool]) -> None:
        with self.asked:
            assert self.asked.wait_for(until, 10.0)


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


def put(outlet: Outlet[int], *numbers: int) -> None:
    for number in numbers:
        assert outlet.admit(1)
        outlet.queue(lambda number=number: (number,), 1)  # type: ignore[misc]  # mypy cannot infer it


def test_no_more_than_the_limit_is_admitted_and_the_rest_counted(health: Health, endpoint: Endpoint) -> None:
    outlet = Outlet("traces", endpoint.send, health, limit=10)
    assert outlet.admit(6)
    assert not outlet.admit(5)
    assert outlet.admit(4)
    assert outlet.dropped == 5
    outlet.queue(lambda: range(10), 10)
    outlet.stop(10.0)
    assert endpoint.batches == [list(range(10))]
    assert outlet.dropped == 5


def test_where_there_is_no_endpoint_nothing_is_admitted_or_lost() -> None:
    outlet: Outlet[int] = Outlet("traces", None, None)
    assert not outlet.admit(1)
    outlet.stop(0.0)
    assert outlet.dropped == 0


def test_what_waits_is_sent_after_the_delay_and_made_only_then(health: Health, endpoint: Endpoint) -> None:
    outlet = Outlet("traces", endpoint.send, health, delay=AT_ONCE)
    put(outlet, 1)
    endpoint.wait(lambda: endpoint.batches == [[1]])
    put(outlet, 2)
    endpoint.wait(lambda: endpoint.batches == [[1], [2]])
    outlet.stop(10.0)
    assert outlet.dropped == 0


def test_a_full_batch_does_not_wait(health: Health, endpoint: Endpoint) -> None:
    outlet = Outlet("traces", endpoint.send, health, delay=3600.0)
    put(outlet, *range(BATCH_SIZE))
    endpoint.wait(lambda: endpoint.batches == [list(range(BATCH_SIZE))])
    outlet.stop(10.0)


def test_at_the_end_all_that_waits_is_sent_in_batches(health: Health, endpoint: Endpoint) -> None:
    outlet = Outlet("traces", endpoint.send, health, limit=3 * BATCH_SIZE, delay=3600.0)
    assert outlet.admit(2 * BATCH_SIZE + 10)
    for first in range(0, 2 * BATCH_SIZE + 10, 2):
        outlet.queue(lambda first=first: (first, first + 1), 2)  # type: ignore[misc]  # mypy cannot infer it
    outlet.stop(10.0)
    assert [item for batch in endpoint.batches for item in batch] == list(range(2 * BATCH_SIZE + 10))
    assert max(map(len, endpoint.batches)) == BATCH_SIZE
    assert not outlet.admit(1)


def test_while_the_endpoint_is_down_little_is_made_and_all_is_counted(
    health: Health, endpoint: Endpoint
) -> None:
    endpoint.works = False
    outlet = Outlet("traces", endpoint.send, health)
    put(outlet, *range(BATCH_SIZE))
    endpoint.wait(lambda: len(endpoint.batches) == 1)
    for _ in range(3 * QUEUE_LIMIT):
        if outlet.admit(1):
            outlet.queue(lambda: (0,), 1)
    outlet.stop(10.0)
    assert [len(batch) for batch in endpoint.batches] == [BATCH_SIZE, TRIAL_SIZE]
    assert outlet.dropped == BATCH_SIZE + 3 * QUEUE_LIMIT


def test_pauses_double_while_it_is_down_and_are_short_again_once_it_works(
    health: Health, endpoint: Endpoint
) -> None:
    endpoint.works = False
    outlet = Outlet("traces", endpoint.send, health, delay=AT_ONCE)
    waited: list[float] = []
    for number in range(4):
        begin = time.monotonic()
        put(outlet, number)
        endpoint.wait(lambda number=number: len(endpoint.batches) == number + 1)  # type: ignore[misc]  # mypy cannot infer it
        waited.append(time.monotonic() - begin)
    assert all(found >= AT_ONCE * 2**number for number, found in enumerate(waited))
    endpoint.works = True
    put(outlet, 4)
    outlet.stop(10.0)
    assert outlet.dropped == 4
    assert AT_ONCE < DELAY


def test_what_an_exporter_raises_is_a_loss_and_is_told(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    def send(items: Sequence[int]) -> bool:
        raise OSError("no\nway")

    outlet = Outlet("traces", send, health, delay=AT_ONCE)
    put(outlet, 1)
    outlet.stop(10.0)
    assert outlet.dropped == 1
    (line,) = [entry.getMessage() for entry in caplog.records if entry.name == "postwarden.telemetry"]
    assert r"OSError: no\nway" in line


def test_batches_are_waited_for_as_the_sdks_variables_say() -> None:
    assert batch_delays({"OTEL_BSP_SCHEDULE_DELAY": ""}) == {"traces": DELAY, "logs": DELAY}
    told = {"OTEL_BSP_SCHEDULE_DELAY": "250", "OTEL_BLRP_SCHEDULE_DELAY": "2000"}
    assert batch_delays(told) == {"traces": 0.25, "logs": 2.0}


@pytest.mark.parametrize("told", ["0", "-1", "1s", "1.5", "²"])
def test_a_delay_that_cannot_be_is_refused_by_name(told: str) -> None:
    with pytest.raises(ValueError, match=r"^OTEL_BLRP_SCHEDULE_DELAY=.*: give milliseconds"):
        batch_delays({"OTEL_BLRP_SCHEDULE_DELAY": told})
