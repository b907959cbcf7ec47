"""The worker process: `python -m postwarden_sidecar.worker --index I --listener FD --control FD --records FD
--page FD`.

Started by the supervisor, which passes the descriptors: a listening socket, one end each of the control and
the records pair, the shared page. Not for people: its arguments may change with any release.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import signal
import socket

from postwarden_sidecar.ipc.channel import Channel
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.ipc.records import RecordSender
from postwarden_sidecar.net.descriptors import raise_limit
from postwarden_sidecar.worker.worker import Worker

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Objects of the youngest generation before a collection: connections are freed by counting, so that a pause
# is seldom worth it.
_GC_THRESHOLD = (20_000, 20, 50)


def main() -> None:
    """Run one worker to its end."""
    parser = argparse.ArgumentParser(prog="postwarden-worker", description="Started by the supervisor only.")
    for name, meaning in (
        ("index", "its slot of the page"),
        ("listener", "descriptor of the listening socket"),
        ("control", "descriptor of the control pair's end"),
        ("records", "descriptor of the records pair's end"),
        ("page", "descriptor of the shared page"),
    ):
        parser.add_argument(f"--{name}", type=int, required=True, help=meaning)
    arguments = parser.parse_args()

    # A Ctrl-C goes to the whole process group; the supervisor drains us in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit = raise_limit()
    listener = socket.socket(fileno=arguments.listener)
    listener.setblocking(False)
    page = Page(arguments.page)
    cells = page.slot(arguments.index)
    worker = Worker(
        listener,
        Channel(socket.socket(fileno=arguments.control)),
        RecordSender(socket.socket(fileno=arguments.records), cells),
        page,
        cells,
        index=arguments.index,
        limit=limit,
    )
    signal.signal(signal.SIGTERM, lambda _signal, _frame: worker.terminate())
    # The end of the control pair says the same; this is for a supervisor whose end of it some other process
    # holds.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLD)
    worker.run()


if __name__ == "__main__":
    main()
