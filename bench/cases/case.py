"""What a case of the benchmark is: what the clients do, how each system is set up for it, and what is aimed at."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.load_generator import Load


@dataclass(frozen=True)
class Aim:
    """Connections per CPU second are to be at least so many times the peer's; stretch: what would be fine."""

    peer: str
    at_least: float
    stretch: float | None = None


@dataclass(frozen=True)
class Case:
    """name       -- of the command line
    load       -- what is measured; `warm_up` goes before it and is not counted
    spec       -- of the ScreeningPolicy, as YAML; `{resolver}` is the name server's address
    postscreen -- parameters of main.cf; `{resolver}` as above
    replies    -- the only reply codes that may come
    systems    -- that the case is for, by name
    listed     -- whether there is an access list of `bench.networks` (ConfigMap `zombies`, key `networks`)
    name_server -- whether the three zones of `bench.zones` are served
    modes      -- of the load, where a system's clients see something else than the others'
    visit      -- what the clients do once before all else, to be known; systems may know them from the start
    """

    name: str
    title: str
    load: Load
    warm_up: Load
    replies: frozenset[str]
    systems: tuple[str, ...]
    aims: tuple[Aim, ...] = ()
    spec: str = ""
    postscreen: Mapping[str, str] = field(default_factory=dict)
    listed: bool = False
    name_server: bool = False
    modes: Mapping[str, str] = field(default_factory=dict)
    visit: Load | None = None

    @property
    def measured(self) -> str:
        """The system that the aims are about."""
        return "postwarden"
