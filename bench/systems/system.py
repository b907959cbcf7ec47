"""What a system of the benchmark is: something that answers SMTP clients, in a control group of its own."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.cases.case import Case
from bench.control_group import ControlGroup


@dataclass(frozen=True)
class Running:
    """A started system. address: `HOST:PORT` that clients connect to. server: what is counted, loggers included. others: what stands
    behind or beside it, by role (`mta`, `name server`); each is shown apart.
    log: the file that the server writes; None: it has none. knows_clients: the case's visits are not needed."""

    address: str
    server: ControlGroup
    others: Mapping[str, ControlGroup] = field(default_factory=dict)
    log: Path | None = None
    knows_clients: bool = False


class System(Protocol):
    """One system. Within the block of `start` it runs, set up for the case; then nothing of it is left."""

    @property
    def name(self) -> str: ...

    def start(self, case: Case) -> AbstractContextManager[Running]: ...
