"""Debian's Postfix with postscreen, its log daemon and dnsblog in the measured group; smtpd is in another Postfix, in the group `mta`.

postscreen passes clients to a socket in its own queue folder: here a link to that of the other Postfix. No other Postfix setting is
changed that costs or saves postscreen anything.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.postfix import Postfix
from harness.postfix_configuration import free_port
from harness.postfix_fixtures import make_postfix_root

from bench.cases.case import Case
from bench.control_group import ControlGroup
from bench.systems.mta import passed_to
from bench.systems.system import Running

SETTINGS = {
    "postscreen_access_list": "",
    "postscreen_greet_banner": "",
    "postscreen_pre_queue_limit": "20000",
    "postscreen_post_queue_limit": "1000",
    "postscreen_client_connection_count_limit": "0",
    "smtpd_tls_security_level": "none",
    # Of dnsblog's processes: as many as its queries at a time.
    "default_process_limit": "300",
}
OTHER_SMTPD = "/run/mta"


class _Postfix(Postfix):
    """With postscreen, and the sockets of another one's smtpd at hand."""

    def __init__(self, root: Path, port: int, settings: dict[str, str], sockets: Path) -> None:
        services = [
            f"127.0.0.1:{port} inet n - n - 1 postscreen",
            "dnsblog unix - - n - 0 dnsblog",
            "tlsproxy unix - - n - 0 tlsproxy",
        ]
        super().__init__(root, settings=settings, services=services)
        self._sockets = sockets

    def _start_lines(self) -> Sequence[str]:
        return [
            f"mkdir -p root{OTHER_SMTPD}",
            f"mount --bind '{self._sockets}' root{OTHER_SMTPD}",
            f"ln -sf {OTHER_SMTPD}/smtpd spool/private/smtpd",
            *super()._start_lines(),
        ]


class Postscreen:
    """See the module."""

    name = "postscreen"

    @contextmanager
    def start(self, case: Case) -> Iterator[Running]:
        port = free_port("127.0.0.1", None)
        with passed_to() as (mta, behind), ControlGroup(self.name) as group:
            settings = SETTINGS | dict(case.postscreen)
            postfix = _Postfix(make_postfix_root(), port, settings, mta.pass_socket.parent)
            with group.joined():
                postfix.__enter__()
            try:
                yield Running(f"127.0.0.1:{port}", group, {"mta": behind})
            finally:
                postfix.__exit__(None, None, None)
