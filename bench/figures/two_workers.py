"""Two workers against one: more connections a second while the load generator has cores left, else what a connection costs."""

import os
import statistics
from collections.abc import Sequence

from bench.cases import access_drop
from bench.figures.figure import Figure, Said
from bench.measure import measure
from bench.systems.postwarden import Postwarden

NAME = "two-workers"
TITLE = "2 workers against 1, denied by access list"

ENOUGH_CORES = 4
"""Two for the workers, one for their supervisor, one for the load generator."""


def study(rounds: int, scale: float, said: Said) -> Sequence[Figure]:
    """See Study."""
    one, two = Postwarden("one-worker"), Postwarden("two-workers", ("--workers=2",))
    found = measure(access_drop.CASE, [one, two], rounds, scale=scale, said=said)
    faster = _ratio(
        [each.per_second for each in found[two.name]], [each.per_second for each in found[one.name]]
    )
    dearer = _ratio(
        [1 / each.per_cpu_second for each in found[two.name]],
        [1 / each.per_cpu_second for each in found[one.name]],
    )
    cores = os.cpu_count() or 1
    enough = cores >= ENOUGH_CORES
    return [
        Figure(
            "connections a second, ratio", faster, "", at_least=1.7 if enough else None, note=f"{cores} cores"
        ),
        Figure("CPU per connection, ratio", dearer, "", at_most=None if enough else 1.05),
    ]


def _ratio(some: Sequence[float], others: Sequence[float]) -> float:
    """Of each round by itself: a slower minute of the machine is both's."""
    return statistics.median(one / other for one, other in zip(some, others, strict=True))
