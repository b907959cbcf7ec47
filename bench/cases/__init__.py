"""The benchmark's cases, one a module; `ALL` has them by name."""

from bench.cases import access_drop
from bench.cases.case import Case

ALL: dict[str, Case] = {case.name: case for case in (access_drop.CASE,)}
