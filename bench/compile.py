"""The C programs of the benchmark, compiled into bench/build when their sources are newer.

Contract: `compiled(program)` gives the path. `load` is all of bench/load but `accept_loop.c`, so that a mode is a file more; `sink` is in
bench/mta. Raises RuntimeError with the compiler's words.
"""

import os
import subprocess
from pathlib import Path
from typing import Literal

SOURCES = Path(__file__).parent / "load"
MTA = Path(__file__).parent / "mta"
BUILD = Path(__file__).parent / "build"
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")
COMPILE_TIMEOUT = 60.0

Program = Literal["load", "accept_loop", "sink"]


def compiled(program: Program) -> Path:
    """See the module's contract."""
    limit = SOURCES / "accept_loop.c"
    own = {"accept_loop": [limit], "sink": [MTA / "sink.c"]}
    sources = own.get(program) or sorted({*SOURCES.glob("*.c")} - {limit})
    result = BUILD / program
    newest = max(file.stat().st_mtime for file in [*sources, *SOURCES.glob("*.h")])
    if result.exists() and result.stat().st_mtime >= newest:
        return result
    BUILD.mkdir(exist_ok=True)
    # Beside the result and renamed: another run may use the old one.
    partial = BUILD / f"{program}.{os.getpid()}"
    done = subprocess.run(
        ["cc", *FLAGS, "-o", partial, *sources], capture_output=True, text=True, timeout=COMPILE_TIMEOUT
    )
    if done.returncode != 0:
        raise RuntimeError(f"cc can't compile {program}:\n{done.stderr}")
    partial.rename(result)
    return result
