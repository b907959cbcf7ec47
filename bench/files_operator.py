"""`python -m bench.files_operator FOLDER`: the operator on files, alone, so that a measured sidecar is what a pod has and no more.

Prints one line of JSON with `address` and `token` when a sidecar may come, and runs until its standard input ends. `postwarden up` has
this operator in the sidecar's own process.
"""

import asyncio
import json
import sys
from pathlib import Path

from postwarden_operator.files.events import Problem
from postwarden_operator.files.operator import FilesEvent, FilesOperator


def _say_problems(event: FilesEvent) -> None:
    if isinstance(event, Problem):
        sys.stderr.write(event.text + "\n")


async def _serve(folder: Path) -> None:
    operator = FilesOperator([folder], report=_say_problems)
    served = await operator.start()
    sys.stdout.write(json.dumps({"address": served.address, "token": served.token}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await operator.stop()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
