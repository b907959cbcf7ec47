"""More clients than a worker may have descriptors: those beyond wait in the kernel's queue and are served once there is room, the worker
rests meanwhile, says so once a second at most, and hands over whoever it has.

Both what it knows of beforehand (the limit that it was started with) and what it meets unprepared (EMFILE) happen for real.
"""

import re
import resource
import socket
import time
from collections.abc import Sequence

from harness.polling import poll
from harness.quick_mta import QuickMta
from harness.sidecar import Sidecar, up
from harness.storm import STALL, Storm, crowd, disperse
from harness.storm_clients import ALL, GOOD, POLICY
from harness.usage import descriptors, processor_seconds

LIMIT = 400
"""Descriptors that the sidecar's processes may have, each; a worker keeps a quarter of so few for hand-overs."""

SOURCE = "127.69.0.1"
LONG_WAIT = POLICY.replace("wait: 200ms", "wait: 60s").replace(
    "connectionsPerClient: 0", "connectionsPerClient: 0, screening: 5000"
)
WAITING = "clients wait to be accepted by worker 0: "
LOOKED_AT = 3.0
"""Seconds that a worker is looked at while it is to rest."""

RESTS = 0.1
"""Of one core: a worker that looks for room ten times a second takes 0.01, one that spins takes what it can get."""


def hear(clients: Sequence[socket.socket]) -> None:
    """Each gets the beginning of a greeting. Raises TimeoutError."""
    for client in clients:
        client.settimeout(STALL)
        assert client.recv(4) == b"220-"


def heard(client: socket.socket) -> bool:
    """Whether there is something for it."""
    client.setblocking(False)
    try:
        return client.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return False


def rests_and_warns(sidecar: Sidecar, reason: str) -> None:
    """While clients wait for room."""
    (worker,) = sidecar.workers()
    sidecar.wait_for_log(re.escape(WAITING) + reason)
    used, began, warned = processor_seconds(worker), time.monotonic(), warnings(sidecar)
    time.sleep(LOOKED_AT)
    lasted = time.monotonic() - began
    assert processor_seconds(worker) - used < RESTS * LOOKED_AT
    assert 1 <= warnings(sidecar) - warned <= lasted + 1


def warnings(sidecar: Sidecar) -> int:
    return sum(WAITING in line for line in sidecar.log())


def test_clients_beyond_the_limit_wait_and_are_served_once_others_leave() -> None:
    prefix = ("prlimit", f"--nofile={LIMIT}:{LIMIT}")
    with (
        QuickMta() as mta,
        up(LONG_WAIT, upstream=mta.address, handoff="plain", log_format="json", prefix=prefix) as sidecar,
    ):
        (worker,) = sidecar.workers()
        before = descriptors(worker)
        clients = crowd(sidecar.host, sidecar.port, 2 * LIMIT, SOURCE)
        try:
            rests_and_warns(sidecar, rf"{LIMIT * 3 // 4 + 1} of {LIMIT} file descriptors are open")
            served = [client for client in clients if heard(client)]
            assert LIMIT // 2 < len(served) < LIMIT
            assert descriptors(worker) <= LIMIT * 3 // 4 + 1
            while served:  # as many as leave come in, until the last is served
                hear(served)
                disperse(served)
                clients = [client for client in clients if client.fileno() >= 0]
                room = min(len(clients), LIMIT // 2)
                poll(
                    lambda left=clients, wanted=room: sum(map(heard, left)) >= wanted,  # type: ignore[misc]  # its defaults
                    STALL,
                    lambda: "those who waited are not served",
                )
                served = [client for client in clients if heard(client)]
            assert clients == []
        finally:
            disperse(clients)
        poll(
            lambda: descriptors(worker) <= before, STALL, lambda: f"{descriptors(worker)} open, {before} were"
        )
        Storm(sidecar.host, sidecar.port, GOOD[:1]).run(200)
        told = warnings(sidecar)
        time.sleep(1.5)
        assert warnings(sidecar) == told
        assert sidecar.workers() == [worker]


def test_a_worker_that_meets_the_kernels_limit_unprepared_rests_and_serves_everybody_afterwards() -> None:
    with (
        QuickMta() as mta,
        up(LONG_WAIT, upstream=mta.address, handoff="plain", log_format="json") as sidecar,
    ):
        (worker,) = sidecar.workers()
        before = descriptors(worker)
        whole = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        clients = crowd(sidecar.host, sidecar.port, 50, SOURCE)
        try:
            hear(clients)
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (before + 60, whole[1]))
            late = crowd(sidecar.host, sidecar.port, 300, SOURCE)
            clients += late
            rests_and_warns(sidecar, "accept: Too many open files")
            assert sum(map(heard, late)) == 10
            resource.prlimit(worker, resource.RLIMIT_NOFILE, whole)
            hear(late)
        finally:
            disperse(clients)
        poll(
            lambda: descriptors(worker) <= before, STALL, lambda: f"{descriptors(worker)} open, {before} were"
        )
        Storm(sidecar.host, sidecar.port, GOOD[:1]).run(200)
        assert sidecar.workers() == [worker]


def test_a_flood_of_every_kind_with_few_descriptors_ends_well() -> None:
    """Some good clients may be asked to come again, for no hand-over begins without a descriptor; nobody is refused by it."""
    with (
        QuickMta() as mta,
        up(POLICY, upstream=mta.address, handoff="plain", log_format="json") as sidecar,
    ):
        (worker,) = sidecar.workers()
        before = descriptors(worker)
        whole = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (before + 40, whole[1]))
        storm = Storm(sidecar.host, sidecar.port, ALL, shortage=True)
        storm.run(2_000)
        assert set(storm.heard) <= {b"220", b"521", b"421"}
        resource.prlimit(worker, resource.RLIMIT_NOFILE, whole)
        poll(
            lambda: descriptors(worker) <= before, STALL, lambda: f"{descriptors(worker)} open, {before} were"
        )
        Storm(sidecar.host, sidecar.port, GOOD).run(200)
        assert sidecar.workers() == [worker]
