"""Connections of which the same is recorded but for who and when: most of what comes is denied at accept, and most of what has mail passed
before. What they have in common is said once.

Contract: what is made of a visit by its template (a line, a log record) is what is made of the record that `whole` makes of both. A
template is never changed: who and when are empty in it, and its reason is what stands between the client's address and the place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy

from postwarden_sidecar.engine.record import Alike, Event, Record, Recorded, TestResult, Visit


def reason(template: Record, visit: Visit) -> str:
    """One sentence for a person."""
    return f"{visit.address}{template.reason}{visit.place}"


def whole(template: Record, visit: Visit) -> Record:
    """The visit's record. Tests and events may be the template's own."""
    record = copy(template)
    record.started = visit.started
    record.reason = reason(template, visit)
    record.client_address = record.peer_address = visit.address
    record.client_port = record.peer_port = visit.port
    record.server_address, record.server_port = visit.server_address, visit.server_port
    if visit.place or visit.after:
        record.tests = [_decided(result, visit) for result in template.tests]
    if visit.after or visit.size:
        record.duration = visit.after
        record.events = template.events[:1] + [_later(event, visit) for event in template.events[1:]]
        if visit.size:
            record.events[1].text, record.events[1].count = visit.said, visit.size
    return record


def said(recorded: Recorded) -> Record:
    """What is said of the connection, or of all of them; who and when are to be asked elsewhere."""
    return recorded.template if isinstance(recorded, Alike) else recorded


def all_whole(recorded: Iterable[Recorded]) -> list[Record]:
    """A record of each connection."""
    records: list[Record] = []
    for each in recorded:
        if isinstance(each, Alike):
            records += [whole(each.template, visit) for visit in each.visits]
        else:
            records.append(each)
    return records


def count(recorded: Sequence[Recorded]) -> int:
    """How many connections."""
    return sum(len(each.visits) if isinstance(each, Alike) else 1 for each in recorded)


def first(recorded: Sequence[Recorded], most: int) -> Sequence[Recorded]:
    """Of so many connections at most."""
    kept: list[Recorded] = []
    for each in recorded:
        if most <= 0:
            break
        if isinstance(each, Alike):
            each = Alike(each.template, each.visits[:most])
            most -= len(each.visits)
        else:
            most -= 1
        kept.append(each)
    return kept


def _decided(result: TestResult, visit: Visit) -> TestResult:
    decided = copy(result)
    decided.start = decided.end = visit.after
    decided.detail = visit.place or result.detail
    return decided


def _later(event: Event, visit: Visit) -> Event:
    later = copy(event)
    later.offset = visit.after
    return later
