"""Rules as plain data that people and programs compare: what `/rules` of a sidecar shows, and `kubectl postwarden diff` compares.

Contract: names are those of `rules.settings` in camel case, durations are seconds. A table of addresses is shown row by row up to
SHOWN_ROWS; a larger one by its size and a hash, for a million networks are no answer. The zone of a DNS list is its template: no key of a
Secret is ever here. Which policy it is, is not in it. Pure.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import ipaddress
from collections.abc import Iterator

from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import AccessAction, DnsblSite, Rules

SHOWN_ROWS = 1000  # rows of a table; some 60 KiB of JSON
Described = dict[str, object] | list[object] | str | int | float | bool | None


def describe(rules: Rules) -> dict[str, Described]:
    """All of the rules but their policy. Takes 10 ms for a million networks."""
    return {
        _camel_case(field.name): _described(getattr(rules, field.name))
        for field in dataclasses.fields(rules)
        if field.name != "policy"
    }


def _described(value: object) -> Described:
    if isinstance(value, AddressTable):
        return _table(value)
    if isinstance(value, enum.Enum):
        return str(value.value)
    if dataclasses.is_dataclass(value):
        left_out = ("zone",) if isinstance(value, DnsblSite) else ()
        return {
            _camel_case(field.name): _described(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name not in left_out
        }
    if isinstance(value, frozenset):
        return _numbers(value)
    if isinstance(value, tuple):
        return [_described(each) for each in value]
    assert value is None or isinstance(value, (str, int, float))
    return value


def _table(table: AddressTable) -> Described:
    """Rows as `192.0.2.0/24 Reject, line 3`; or how many there are, and a hash of them."""
    if len(table) <= SHOWN_ROWS:
        return list(_rows(table))
    found = hashlib.sha256(repr(table.lines_before).encode())
    for shard in table.v4 + table.v6:  # which family a shard is of shows in the lengths of lines_before
        found.update(shard)
    return {"networks": len(table), "hash": found.hexdigest()[:16]}


def _rows(table: AddressTable) -> Iterator[str]:
    for first, last, action, line in table.rows():
        networks = list(ipaddress.summarize_address_range(first, last))
        where = str(networks[0]) if len(networks) == 1 else f"{first}-{last}"
        yield f"{where} {AccessAction(action).name.capitalize()}" + (f", line {line}" if line else "")


def _numbers(values: frozenset[int]) -> str:
    """`1..3;7`, as the policy's reply filters are written."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and runs[-1][1] == value - 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ";".join(str(first) if first == last else f"{first}..{last}" for first, last in runs)


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join("SMTP" if word == "smtp" else word.capitalize() for word in rest)
