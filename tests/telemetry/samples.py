"""Records of typical connections, for the tests of telemetry."""

from __future__ import annotations

from typing import Any

from msgspec import structs
from postwarden_sidecar.engine.record import Event, EventKind, Record, TestResult, Verdict

STARTED = 1_767_323_045.25  # 2026-01-02T03:04:05.25Z


def record(**changes: Any) -> Record:
    """A client that was denied under Enforce, with what changes say."""
    denied = Record(
        started=STARTED,
        duration=2.5,
        verdict=Verdict.REJECTED,
        reason="denied by spec.access.rules[1]",
        client_address="192.168.7.9",
        client_port=40001,
        server_address="192.0.2.25",
        server_port=25,
        peer_address="10.0.0.3",
        peer_port=40002,
        proxied=True,
        test="access",
        action="Enforce",
        policy_namespace="mail",
        policy_name="edge",
        policy_revision="r1",
        dialog_start=0.5,
        helo="c.example",
        proto="ESMTP",
        sender="a@example.com",
        recipient="b@example.org",
        tests=[TestResult("access", "fail", "Enforce", 0.0, 0.0, "spec.access.rules[1] line 4")],
        events=[
            Event(EventKind.CONNECT, 0.0),
            Event(EventKind.DENYLISTED, 0.0),
            Event(
                EventKind.REJECT,
                2.0,
                "550 5.3.2 Service currently unavailable",
                sender="a@example.com",
                recipient="b@example.org",
                helo="c.example",
                proto="ESMTP",
            ),
            Event(EventKind.DISCONNECT, 2.5),
        ],
    )
    return structs.replace(denied, **changes)


def passed(**changes: Any) -> Record:
    """A client that passed the greeting's wait and was handed over."""
    return record(
        **{
            "verdict": Verdict.PASS_NEW,
            "reason": "passed pregreet",
            "duration": 6.25,
            "test": "",
            "action": "",
            "handoff": "ProxyV2",
            "dialog_start": -1.0,
            "handoff_start": 6.0,
            "helo": "",
            "proto": "",
            "sender": "",
            "recipient": "",
            "tests": [TestResult("pregreet", "pass", "", 0.0, 6.0)],
            "events": [Event(EventKind.CONNECT, 0.0), Event(EventKind.PASS_NEW, 6.0)],
        }
        | changes
    )
