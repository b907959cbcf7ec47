"""A worker under load whose system calls fail, one in fifty: for want of memory, buffers, descriptors. Connections may be cut off; but
nobody is turned away for good by it, the worker lives on, and once the want is over nothing is left of it.
"""

import time

from harness.failing_calls import FailingCalls
from harness.polling import poll
from harness.quick_mta import QuickMta
from harness.sidecar import up
from harness.storm import STALL, Kind, Storm
from harness.storm_clients import ALL, GOOD, POLICY
from harness.usage import descriptors, processor_seconds, resident

CONNECTIONS = 2_500


def goes_without_harm(kind: Kind, heard: bytes) -> None:
    """Who is a mail server may be cut off anywhere, and comes again: no reply says that it should not."""
    assert kind not in GOOD or not any(line.startswith(b"5") for line in heard.splitlines()), heard


def test_failing_calls_cut_off_connections_and_nothing_else() -> None:
    with (
        FailingCalls("postwarden_sidecar.worker") as failing,
        QuickMta() as mta,
        up(
            POLICY, upstream=mta.address, handoff="plain", log_format="json", prefix=failing.prefix
        ) as sidecar,
    ):
        (worker,) = sidecar.workers()
        Storm(sidecar.host, sidecar.port, ALL).run(1_000)
        poll(lambda: mta.open == 0, STALL, lambda: "a session with the MTA is open")
        before = descriptors(worker)
        failing.share = 0.02
        storm = Storm(sidecar.host, sidecar.port, ALL, check=goes_without_harm)
        storm.run(CONNECTIONS)
        size = resident(worker)
        storm.run(CONNECTIONS)
        assert resident(worker) - size < 3, "MiB"
        failing.share = 0.0
        assert sidecar.workers() == [worker], sidecar.log_text()
        poll(
            lambda: descriptors(worker) <= before, STALL, lambda: f"{descriptors(worker)} open, {before} were"
        )
        used = processor_seconds(worker)
        time.sleep(1)
        assert processor_seconds(worker) - used < 0.2, "it rests"
        Storm(sidecar.host, sidecar.port, GOOD).run(300)
