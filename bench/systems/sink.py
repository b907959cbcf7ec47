"""A mail server that answers at once (bench/mta/sink.c): what is measured is then what stands before it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from harness.mail_server import START_TIMEOUT
from harness.netns import DIES_WITH_US
from harness.polling import poll
from harness.postfix_configuration import free_port

from bench.compile import compiled
from bench.systems.listening import listens


@contextmanager
def sink(*, proxy: bool) -> Iterator[str]:
    """Its `HOST:PORT`. proxy: each connection begins with a PROXY v2 header."""
    port = free_port("127.0.0.1", None)
    process = subprocess.Popen(
        [*DIES_WITH_US, compiled("sink"), "127.0.0.1", str(port), *(["proxy"] if proxy else [])]
    )
    try:
        poll(lambda: listens(port), START_TIMEOUT, lambda: "the sink does not listen")
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
