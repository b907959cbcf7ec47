"""System calls that fail as they do where the kernel is short of memory or descriptors, in chosen processes of a real program.

Contract: `with FailingCalls(cmdline) as failing:` compiles failing_calls.c; a program started behind `failing.prefix` and its children run
as ever until `failing.share` is set: that share of the calls of those whose command line has `cmdline` in it fails then.

Why not fault injection by the kernel: it is a build option, and for the whole machine.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.toolchain import unavailable

_SOURCE = Path(__file__).with_suffix(".c")


class FailingCalls:
    """Skips, or fails where CI=true, on a machine without a C compiler."""

    def __init__(self, cmdline: str) -> None:
        self._cmdline = cmdline
        self._directory = Path()

    def __enter__(self) -> Self:
        if shutil.which("cc") is None:
            unavailable("a C compiler (cc)")
        self._directory = Path(tempfile.mkdtemp(prefix="postwarden-failing-"))
        try:
            self.share = 0.0
            subprocess.run(
                ["cc", "-O2", "-shared", "-fPIC", "-o", self._library, _SOURCE, "-ldl"],
                check=True,
                timeout=60,
            )
        except BaseException:
            shutil.rmtree(self._directory)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self._directory)

    @property
    def prefix(self) -> list[str]:
        """What starts the program."""
        return [
            "env",
            f"LD_PRELOAD={self._library}",
            f"FAILING_CALLS={self._share_file}",
            f"FAILING_IN={self._cmdline}",
        ]

    @property
    def share(self) -> float:
        """Of the calls, 0 to 1."""
        return self._share_file.read_bytes()[0] / 256

    @share.setter
    def share(self, share: float) -> None:
        with self._share_file.open("r+b" if self._share_file.exists() else "wb") as file:
            file.write(bytes([round(share * 256)]))

    @property
    def _library(self) -> Path:
        return self._directory / "failing_calls.so"

    @property
    def _share_file(self) -> Path:
        return self._directory / "share"
