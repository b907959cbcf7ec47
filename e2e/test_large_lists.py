"""A list of a million networks, in ConfigMaps of gzip: compiled, fetched and swapped in while mail flows; then one line more.

Times are printed (pytest -s): from the API server's having a change to what clients hear.
"""

import base64
import gzip
import os
import random
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.cluster import ApiServer
from harness.mail_attempt import first_reply, last_reply_to_mail
from harness.operator_process import OperatorProcess
from harness.polling import poll
from harness.repeated import Repeated
from harness.screening_objects import policy, wait_for_reasons
from harness.sidecar_fixtures import StartSidecar
from harness.sidecar_process import SidecarProcess

NETWORKS, SOURCES = 1_000_000, 6
"""A ConfigMap holds 1 MiB; gzip makes 4.4 MB of the list."""

FIRST_WITHIN, CHANGED_WITHIN = 20.0, 10.0
"""Seconds. The aim for a changed line is 2 on idle cores; CI's are busy with all that runs here, and on two of them."""

ZOMBIE, OTHER_ZOMBIE, THIRD_ZOMBIE, SENDER = "127.66.6.6", "127.77.7.7", "127.88.8.8", "127.0.8.8"

_FETCHED = re.compile(r"fetched (\d+) tables of the rules, (\d+) bytes")


class MailFlow(Repeated):
    """Mails and greetings, one after the other, in a thread. refused: the replies that are none of a mail taken. slowest: seconds
    until a greeting, since it was last set to 0."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        super().__init__(0.01)
        self._address = sidecar.address
        self.sent = 0
        self.refused: list[str] = []
        self.slowest = 0.0

    def _once(self) -> None:
        try:
            began = time.monotonic()
            greeting = first_reply(self._address, SENDER)
            self.slowest = max(self.slowest, time.monotonic() - began)
            last = last_reply_to_mail(self._address, SENDER)
            self.refused += [said for said in (greeting, last) if said[:3] not in ("220", "250")]
        except OSError as error:
            self.refused.append(repr(error))
        self.sent += 1


def million() -> list[int]:
    """Addresses in order, none of loopback but the zombie's."""
    drawn = random.Random(5).sample(range(1 << 24, 223 << 24), NETWORKS)
    return sorted([*(each for each in drawn if each >> 24 != 127), number(ZOMBIE)])


def number(address: str) -> int:
    return int.from_bytes(bytes(map(int, address.split("."))), "big")


def text(addresses: list[int]) -> bytes:
    return "".join(f"{socket.inet_ntoa(each.to_bytes(4, 'big'))}\n" for each in addresses).encode()


class Lists:
    """The list in ConfigMaps."""

    def __init__(self, api_server: ApiServer, namespace: str) -> None:
        self._api_server, self._path = api_server, f"/api/v1/namespaces/{namespace}/configmaps"
        whole = million()
        size = len(whole) // SOURCES + 1
        self._parts = [whole[start : start + size] for start in range(0, len(whole), size)]
        for part in range(SOURCES):
            api_server.request("POST", self._path, self._config_map(part))

    def add(self, address: str) -> None:
        """One line more, in its place: every line after it is counted one further."""
        value = number(address)
        part = next(at for at, part in enumerate(self._parts) if part[-1] > value)
        self._parts[part] = sorted([*self._parts[part], value])
        self._api_server.request("PUT", f"{self._path}/zombies-{part}", self._config_map(part))

    def line(self, address: str) -> int:
        """Of all sources together."""
        return [each for part in self._parts for each in part].index(number(address)) + 1

    def _config_map(self, part: int) -> dict[str, Any]:
        packed = gzip.compress(text(self._parts[part]), 4)
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"zombies-{part}", "labels": {"postwarden.dev/watch": "true"}},
            "binaryData": {"networks": base64.b64encode(packed).decode()},
        }


def screening() -> dict[str, Any]:
    sources = [{"configMapKeyRef": {"name": f"zombies-{part}", "key": "networks"}} for part in range(SOURCES)]
    rules = [{"action": "Reject", "listFrom": {"sources": sources}}]
    return {
        "access": {"myNetworks": [], "rejectAction": "Drop", "rules": rules},
        "pregreet": {"banner": ""},
    }


def fetched(sidecar: SidecarProcess) -> list[tuple[int, int]]:
    """(tables, bytes) of each time that it fetched some."""
    return [(int(tables), int(size)) for tables, size in _FETCHED.findall(sidecar.log())]


def seconds_until(condition: Callable[[], bool], within: float, sidecar: SidecarProcess) -> float:
    began = time.monotonic()
    poll(condition, within, sidecar.log_tail)
    return time.monotonic() - began


def memory(pid: int, field: str = "VmHWM") -> int:
    """MB."""
    (found,) = re.findall(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found) // 1024


def list_process(operator: OperatorProcess) -> int:
    """The pid of the operator's process for lists."""
    children = Path(f"/proc/{operator.process.pid}/task")
    for task in children.iterdir():
        for pid in (task / "children").read_text().split():
            if "multiprocessing-fork" in Path(f"/proc/{pid}/cmdline").read_text():
                return int(pid)
    raise AssertionError("the operator has no process for lists")


def test_a_million_networks_are_swapped_in_while_mail_flows_and_a_line_more_costs_one_shard(
    api_server: ApiServer, operator: OperatorProcess, namespace: str, start_sidecar: StartSidecar
) -> None:
    sidecar = start_sidecar()
    lists = Lists(api_server, namespace)
    with MailFlow(sidecar) as flow:
        poll(lambda: flow.sent > 20, 20.0, sidecar.log_tail)
        idle, flow.slowest = flow.slowest, 0.0
        api_server.apply(policy("wall", namespace, **screening()))
        first = seconds_until(
            lambda: first_reply(sidecar.address, ZOMBIE).startswith("521"), FIRST_WITHIN, sidecar
        )
        (whole,) = fetched(sidecar)
        assert 100 <= whole[0] <= 400
        assert whole[1] >= NETWORKS * 13 * 0.99
        wait_for_reasons(
            api_server, "wall", namespace, Programmed="True/Synced", ResolvedRefs="True/Resolved"
        )
        swapping, flow.slowest = flow.slowest, 0.0

        lists.add(OTHER_ZOMBIE)
        changed = seconds_until(
            lambda: first_reply(sidecar.address, OTHER_ZOMBIE).startswith("521"), CHANGED_WITHIN, sidecar
        )
        (shard,) = fetched(sidecar)[1:]
        assert shard[0] == 1
        assert shard[1] <= 64 * 1024
        assert first_reply(sidecar.address, ZOMBIE).startswith("521")
        wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")

        os.kill(list_process(operator), signal.SIGKILL)
        lists.add(THIRD_ZOMBIE)
        seconds_until(
            lambda: first_reply(sidecar.address, THIRD_ZOMBIE).startswith("521"), FIRST_WITHIN, sidecar
        )
        assert operator.process.alive()
    assert flow.refused == []
    assert sidecar.process is not None
    # Shared by all workers, and what was in force before is let go with the last connection that began under it.
    poll(
        lambda: memory(sidecar.worker, "RssShmem") * 1024 * 1024 <= 20 * NETWORKS,
        10.0,
        lambda: "it stays mapped",
    )
    # What is the supervisor's own: the tables as they came, for a moment, and as they are in force.
    assert memory(sidecar.process.pid) < 200
    print(
        f"\n{NETWORKS} networks: in force after {first:.2f} s ({whole[0]} tables, {whole[1]} bytes); one line more: after "
        f"{changed:.2f} s ({shard[1]} bytes); slowest greeting {1000 * idle:.0f} ms before, {1000 * swapping:.0f} ms meanwhile; "
        f"peak memory: sidecar {memory(sidecar.process.pid)} MB, its worker {memory(sidecar.worker)} MB, "
        f"operator {memory(operator.process.pid)} MB, its process for lists {memory(list_process(operator))} MB"
    )

    count, orphan = len(fetched(sidecar)), list_process(operator)
    with operator.away():
        poll(
            lambda: not Path(f"/proc/{orphan}").exists(),
            5.0,
            lambda: "the process for lists outlives its operator",
        )
        sidecar.restart()
        for zombie in (ZOMBIE, OTHER_ZOMBIE, THIRD_ZOMBIE):
            assert first_reply(sidecar.address, zombie).startswith("521")
    poll(lambda: sidecar.log().count("last known good rules") >= 1, 5.0, sidecar.log_tail)
    lists.add("127.99.9.9")
    seconds_until(
        lambda: first_reply(sidecar.address, "127.99.9.9").startswith("521"), 2 * FIRST_WITHIN, sidecar
    )
    assert [tables for tables, _ in fetched(sidecar)[count:]] == [1]
    # Lines are the list's own, also in shards that were not sent again when lines before them were added.
    first_reply(sidecar.address, THIRD_ZOMBIE)
    sidecar.wait_for_log(f"spec.access.rules[0], line {lists.line(THIRD_ZOMBIE)}")
