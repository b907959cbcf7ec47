"""Fuzz targets: each module has `fuzz(data)`, which raises if what reads data from the network breaks a promise. They need no fuzzer: the
tests replay the corpus with them."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

NAMES = ("engine", "proxy_header", "dns_reply", "mta_replies")


class Target(Protocol):
    """One input; any exception is a find."""

    def __call__(self, data: bytes) -> None: ...


def load(name: str) -> Target:
    """The target of this name; it imports what it tests, so that a fuzzer can instrument that."""
    return cast(Target, import_module(f"fuzz_targets.{name}").fuzz)
