"""The limit: an accept loop in C that answers 521 and closes, whoever comes."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from harness.mail_server import START_TIMEOUT
from harness.netns import DIES_WITH_US
from harness.polling import poll
from harness.postfix_configuration import free_port

from bench.cases.case import Case
from bench.compile import compiled
from bench.control_group import ControlGroup
from bench.systems.listening import listens
from bench.systems.system import Running


class AcceptLoop:
    """See the module."""

    name = "accept-loop"

    @contextmanager
    def start(self, case: Case) -> Iterator[Running]:
        port = free_port("127.0.0.1", None)
        program = compiled("accept_loop")
        with ControlGroup(self.name) as group:
            with group.joined():
                process = subprocess.Popen([*DIES_WITH_US, program, "127.0.0.1", str(port)])
            try:
                poll(lambda: listens(port), START_TIMEOUT, lambda: "the accept loop does not listen")
                yield Running(f"127.0.0.1:{port}", group)
            finally:
                process.kill()
                process.wait()
