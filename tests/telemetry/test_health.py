"""Warnings of an endpoint that does not work, and the count of what was lost."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import pytest
from postwarden.telemetry.health import FIRST_PAUSE, LONGEST_PAUSE, Health


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Our own lines; pytest listens to the SDK's logger as well, which passes nothing on."""
    return [entry.getMessage() for entry in caplog.records if entry.name == "postwarden.telemetry"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Iterator[Health]:
    health = Health("http://collector:4317", clock)
    yield health
    health.close()


def test_the_first_failure_is_told_with_its_reason(health: Health, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("opentelemetry.exporter").warning("Transient error %s\n\x1b[31m", "connection refused")
    logging.getLogger("opentelemetry.exporter").error("Failed to export due to timeout or shutdown")
    health.failed("traces", 3)
    (line,) = told(caplog)
    assert line == (
        "OTLP endpoint http://collector:4317 does not take traces (3 items lost so far): "
        r"Transient error connection refused\n\x1b[31m; mail goes on, check --otlp-endpoint"
    )


def test_warnings_get_rarer_down_to_one_an_hour(
    health: Health, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    warned_at: list[int] = []
    for second in range(0, 6 * int(LONGEST_PAUSE), 10):
        clock.now = second
        health.failed("traces", 1)
        if len(told(caplog)) > len(warned_at):
            warned_at.append(second)
    pauses = [after - before for before, after in itertools.pairwise(warned_at)]
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


def test_an_endpoint_that_works_again_is_told_once(
    health: Health, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    health.worked("logs")
    assert told(caplog) == []
    health.failed("logs", 5)
    health.worked("logs")
    health.worked("logs")
    assert told(caplog)[1:] == ["OTLP endpoint http://collector:4317 works again; 5 items were lost"]
    health.failed("logs", 1)
    assert len(told(caplog)) == 3


def test_a_backend_that_takes_traces_only_is_warned_of_at_the_same_pace(
    health: Health, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for second in range(180):
        clock.now = second
        health.worked("traces")
        health.failed("logs", 1)
        health.failed("metrics", 0)
    assert [line.partition(":4317 ")[2].partition(" (")[0] for line in told(caplog)] == [
        "does not take logs",
        "does not take logs, metrics",
    ]


def test_who_sends_to_the_same_endpoint_shares_its_warnings(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    before = logging.getLogger("opentelemetry").propagate
    one, other, elsewhere = (Health.of(f"http://{host}:4317", clock) for host in ("a", "a", "b"))
    assert one is other
    assert elsewhere is not one
    one.close()
    other.failed("traces", 1)
    assert len(told(caplog)) == 1
    other.close()
    again = Health.of("http://a:4317", clock)
    assert again is not other
    again.close()
    elsewhere.close()
    assert logging.getLogger("opentelemetry").propagate == before


def test_giving_up_is_told_once_and_nothing_after_it(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    health.give_up()
    health.failed("traces", 1)
    health.worked("traces")
    assert told(caplog) == [
        "OTLP endpoint http://collector:4317 did not answer in time; what waited for it is lost"
    ]


def test_the_sdks_own_logging_is_left_as_it_was_found(clock: Clock) -> None:
    sdk = logging.getLogger("opentelemetry")
    before = (list(sdk.handlers), sdk.propagate)
    health = Health("http://collector:4317", clock)
    assert not sdk.propagate
    health.close()
    assert (list(sdk.handlers), sdk.propagate) == before


def test_a_warning_names_what_the_endpoint_came_from(
    health: Health, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    own, common = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
    health.named("traces", own)
    health.named("logs", common)
    health.failed("traces", 1)
    clock.now += FIRST_PAUSE
    health.failed("logs", 1)
    assert [line.rpartition("check ")[2] for line in told(caplog)] == [own, f"{common} and {own}"]
