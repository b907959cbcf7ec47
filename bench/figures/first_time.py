"""A mail of a client that was never seen: what it waits for beyond the waits that the policy asks for.

The time is from connect(2) to the reply to the end of the mail, less the configured wait, less the median of the same without a sidecar.
The mail server answers at once (bench/mta/sink.c), so its own moods are no part of it. Tests within the dialogue are on: the session is
handed over at RCPT. Few enough clients at a time that none waits for another.
"""

import statistics
from collections.abc import Sequence

from bench.figures.figure import Figure, Said
from bench.load_generator import Load, run_load
from bench.systems.pod import pod, policy
from bench.systems.sink import sink

NAME = "first-time"
TITLE = "first-time client, inline hand-over, whole mail of 10 KB"

WAIT = 1.0
"""Seconds, of pregreet."""

SPEC = f"""
  access: {{myNetworks: []}}
  pregreet: {{wait: {WAIT:g}s}}
  protocol:
    pipelining: {{enabled: true}}
    nonSMTPCommand: {{enabled: true}}
    bareNewline: {{enabled: true}}
"""

MAILS = Load("mail", connections=2_000, concurrency=500, rate=100)
DIRECT = Load("mail", connections=1_000, concurrency=500, rate=100)
WARM_UP = Load("mail", connections=200, concurrency=100, rate=200, sources="127.32.0.0:200")


def study(rounds: int, scale: float, said: Said) -> Sequence[Figure]:
    """See Study."""
    typical, late, greeted = [], [], []
    for number in range(rounds):
        with sink(proxy=False) as alone:
            direct = run_load(DIRECT, alone).latency_us["p50"]
        with (
            sink(proxy=True) as upstream,
            pod([policy(SPEC)], upstream=upstream, handoff="proxy-v2") as started,
        ):
            run_load(WARM_UP, started.address)
            found = run_load(MAILS, started.address)
        more = found.more["greeting_us"]
        assert isinstance(more, dict)
        typical.append((found.latency_us["p50"] - direct) / 1e3 - WAIT * 1e3)
        late.append((found.latency_us["p99"] - direct) / 1e3 - WAIT * 1e3)
        greeted.append(more["p99"] / 1e3 - WAIT * 1e3)
        said(
            f"{NAME} {number + 1}/{rounds}: {typical[-1]:.2f} ms added, p99 {late[-1]:.2f} ms; greeting's p99 {greeted[-1]:.2f} ms late"
        )
    return [
        Figure("time added, p50", statistics.median(typical), "ms"),
        Figure("time added, p99", statistics.median(late), "ms", at_most=5.0),
        Figure("of that until the greeting, p99", statistics.median(greeted), "ms"),
    ]
