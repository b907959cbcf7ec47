"""What a real postscreen did, done by `postwarden up` in front of a real smtpd: replies, their times, and the log.

The engine's tests play the same cases, and more of them, in virtual time. Here they come through sockets, workers, files and the log: all
of them side by side, each profile with a sidecar of its own and one Postfix behind all.
"""

import asyncio
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from engine.recorded_player import Case, compare_log
from engine.recorded_policies import without_later_fields
from engine.test_recorded_cases import CORPUS, LATER_LOG, OTHER_LOG, PLAYED
from harness.postfix import Postfix
from harness.postfix_configuration import join_address
from harness.recorded_cases import Played, log_of, play
from harness.sidecar import Sidecar, up

STARTS = 4
"""Sidecars that start at a time: more are no faster on two cores."""

PROFILES: dict[str, Any] = {case["profile"]: CORPUS["profiles"][case["profile"]] for case in PLAYED}
MTA = {
    "smtpd_banner": "$myhostname ESMTP upstream",
    "relay_domains": "example.net",
    "smtpd_client_connection_count_limit": "0",  # all clients are the sidecar's address here
}


def policy_of(profile: dict[str, Any]) -> str:
    """The profile's policy less the fields that do not exist yet, and its ConfigMaps."""
    policy, *others = yaml.safe_load_all(profile["policy"])
    policy["spec"] = {"selector": {}} | without_later_fields(policy["spec"])
    return yaml.safe_dump_all([policy, *others])


def sidecar_of(profile: dict[str, Any], postfix: Postfix, nobody: socket.socket) -> Sidecar:
    """nobody: is bound to a port and does not listen."""
    down = profile.get("upstream") == "down"
    upstream = f"127.0.0.1:{nobody.getsockname()[1]}" if down else postfix.address
    listen = join_address(profile.get("listen", "127.0.0.1"), 0)
    return up(policy_of(profile), upstream=upstream, handoff="plain", listen=listen)


@pytest.fixture(scope="module")
def problems(postfix_root: Path) -> Iterator[dict[str, list[str]]]:
    """Of each case, what was not as recorded."""
    with (
        Postfix(postfix_root, hostname="mx.oracle.test", settings=MTA) as postfix,
        ThreadPoolExecutor(STARTS) as threads,  # they live as long as what they start
        socket.socket() as nobody,
        ExitStack() as running,
    ):
        nobody.bind(("127.0.0.1", 0))
        sidecars = {name: sidecar_of(profile, postfix, nobody) for name, profile in PROFILES.items()}
        for sidecar in threads.map(Sidecar.__enter__, sidecars.values()):
            running.push(sidecar)
        played = threads.submit(lambda: asyncio.run(play_all(sidecars))).result()
        list(threads.map(Sidecar.stop, sidecars.values()))  # so that their logs are complete
        yield {
            case["id"]: result.problems + log_problems(case, result, log_of(sidecars[case["profile"]].log()))
            for case, result in zip(PLAYED, played, strict=True)
        }


async def play_all(sidecars: dict[str, Sidecar]) -> list[Played]:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(play(case, sidecars[case["profile"]].host, sidecars[case["profile"]].port))
            for case in PLAYED
        ]
    return [task.result() for task in tasks]


def log_problems(case: Case, played: Played, log: dict[tuple[str, int], list[str]]) -> list[str]:
    announced = {step.get("c", "a") for step in case["steps"] if "as" in step}
    got: dict[str, list[str]] = {}
    for name, client in played.clients:
        events = log.get(client, [])
        if name not in announced:  # the server's own address is compared where a header told it
            events = ["CONNECT" if event.startswith("CONNECT to ") else event for event in events]
        got.setdefault(name, []).extend(events)
    found = []
    for name, events in got.items():
        recorded = OTHER_LOG.get(case["id"], case["log"][name])
        want = [entry for entry in recorded if not entry.startswith(LATER_LOG)]
        found += compare_log(want, events, f"{case['id']} log of {name}")
    return found


@pytest.mark.parametrize("case", PLAYED, ids=lambda case: f"{case['id']}-{case['title']}")
def test_does_what_postscreen_did(case: Case, problems: dict[str, list[str]]) -> None:
    assert problems[case["id"]] == [], json.dumps(case["steps"], indent=1)
