"""What the benchmark reads of the kernel and of its load generator."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.control_group import choose_hierarchy, parse_cpu_stat, parse_mounts, parse_pss
from bench.load_generator import Load, parse_result
from bench.systems.listening import parse_listeners

V1 = "cgroup /sys/fs/cgroup/cpuacct cgroup rw,relatime,cpuacct 0 0\n"
JOINT = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n"
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n"
HYBRID = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "place", "version"),
    [
        (V2, "/sys/fs/cgroup", 2),
        (HYBRID + V1, "/sys/fs/cgroup/cpuacct", 1),
        (JOINT, "/sys/fs/cgroup/cpu,cpuacct", 1),
        ("tmpfs /tmp tmpfs rw 0 0\n" + V2, "/sys/fs/cgroup", 2),
    ],
    ids=["v2", "hybrid", "v1 with cpu", "v2 among others"],
)
def test_groups_are_made_where_cpu_time_is_counted(mounts: str, place: str, version: int) -> None:
    assert choose_hierarchy(parse_mounts(mounts)) == (Path(place), version)


def test_a_machine_without_control_groups_is_told_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="mount cgroup2"):
        choose_hierarchy(parse_mounts("tmpfs /tmp tmpfs rw 0 0\n"))


def test_cpu_stat_is_in_seconds() -> None:
    assert parse_cpu_stat("usage_usec 1500000\nuser_usec 1\nsystem_usec 2\n") == 1.5


def test_pss_is_in_bytes() -> None:
    assert (
        parse_pss("5590-7ffc ---p 0 00:00 0 [rollup]\nRss: 900 kB\nPss: 300 kB\nPss_Dirty: 1 kB\n") == 307200
    )


def test_only_listeners_count() -> None:
    text = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n"
        "   1: 0100007F:0019 0100407F:D431 01 00000000:00000000 00:00000000 00000000     0\n"
    )
    assert parse_listeners(text) == {8080}


def test_the_generators_words_become_a_result_with_what_its_mode_adds() -> None:
    found = parse_result(
        '{"connections": 2, "failures": {"reset": 1}, "seconds": 0.5, "replies": {"521": 2}, "reset_after_verdict": 1,'
        ' "latency_us": {"p50": 1.5, "p90": 2.0, "p99": 3.0, "max": 4.0}}'
    )
    assert (found.connections, found.failures, found.replies) == (2, {"reset": 1}, {"521": 2})
    assert found.latency_us["p99"] == 3.0
    assert found.more == {"reset_after_verdict": 1}


def test_a_load_becomes_options() -> None:
    words = Load("drop", connections=10, concurrency=2, rate=5.0).command("127.0.0.1:25")
    assert {"--target=127.0.0.1:25", "--mode=drop", "--connections=10", "--concurrency=2", "--rate=5.0"} <= {
        *words
    }
    assert not any(word.startswith("--argument") for word in words)
    assert "--argument=x" in Load("hold", 1, 1, argument="x").command("127.0.0.1:25")
