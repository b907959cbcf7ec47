"""How two descriptions of rules differ (`postwarden_sidecar.rules.description`). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """path: `pregreet.action`, `access.rules[1].table`. in_force, wanted: what is there; of a list of texts only what the other does not
    have. Absent: None."""

    path: str
    in_force: object
    wanted: object


def differences(in_force: object, wanted: object, path: str = "") -> Iterator[Difference]:
    """In the order of what is in force, then what is new."""
    if in_force == wanted:
        return
    if isinstance(in_force, Mapping) and isinstance(wanted, Mapping):
        for key in [*in_force, *(key for key in wanted if key not in in_force)]:
            within = f"{path}.{key}" if path else str(key)
            yield from differences(in_force.get(key), wanted.get(key), within)
    elif isinstance(in_force, list) and isinstance(wanted, list):
        if _texts(in_force) and _texts(wanted):
            yield _of_texts(in_force, wanted, path)
            return
        for index in range(max(len(in_force), len(wanted))):
            old = in_force[index] if index < len(in_force) else None
            new = wanted[index] if index < len(wanted) else None
            yield from differences(old, new, f"{path}[{index}]")
    else:
        yield Difference(path, in_force, wanted)


def _texts(values: list[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _of_texts(in_force: list[object], wanted: list[object], path: str) -> Difference:
    """Those that only one has; where both have the same in another order, all of them."""
    old, new = Counter(map(str, in_force)), Counter(map(str, wanted))
    gone, come = list((old - new).elements()), list((new - old).elements())
    return Difference(path, gone, come) if gone or come else Difference(path, in_force, wanted)
