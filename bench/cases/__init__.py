"""The benchmark's cases, one a module; `ALL` has them by name."""

from bench.cases import access_drop, dnsbl_drop, early_talker, known_client
from bench.cases.case import Case

_CASES = (access_drop.CASE, early_talker.CASE, dnsbl_drop.CASE, known_client.CASE)
ALL: dict[str, Case] = {case.name: case for case in _CASES}
