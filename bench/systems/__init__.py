"""The systems that are measured, one a module; `ALL` has them by name."""

from bench.systems.accept_loop import AcceptLoop
from bench.systems.postscreen import Postscreen
from bench.systems.postwarden import Postwarden
from bench.systems.system import System

ALL: dict[str, System] = {system.name: system for system in (AcceptLoop(), Postwarden(), Postscreen())}
