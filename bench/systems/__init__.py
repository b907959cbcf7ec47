"""The systems that are measured, one a module; `ALL` has them by name."""

from bench.systems.accept_loop import AcceptLoop
from bench.systems.haproxy import HAProxy
from bench.systems.postscreen import Postscreen
from bench.systems.postwarden import Postwarden
from bench.systems.system import System

_SYSTEMS: tuple[System, ...] = (
    AcceptLoop(),
    HAProxy(),
    HAProxy("haproxy-1-thread", threads=1),
    Postwarden(),
    Postscreen(),
)
ALL: dict[str, System] = {system.name: system for system in _SYSTEMS}
