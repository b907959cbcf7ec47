"""Debian's Postfix with postscreen, its log daemon and dnsblog in the measured group; smtpd is in another Postfix, in the group `mta`.

postscreen passes clients to a socket in its own queue folder: here a link to that of the other Postfix. No other Postfix setting is
changed that costs or saves postscreen anything.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

from harness.postfix import Postfix
from harness.postfix_configuration import free_port
from harness.postfix_fixtures import make_postfix_root

from bench.cases.case import Case
from bench.control_group import ControlGroup
from bench.networks import clients
from bench.systems.mta import passed_to
from bench.systems.name_server import name_server
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

CACHE = "postscreen_cache"
DAY = 86400


def cache_lines(known: Sequence[str], until: int) -> str:
    """For postmap: clients whose greeting test is passed until then; the 1s are of tests that are not made (postscreen_tests.c).

    Written and not earned by visits: postscreen forgets to go on with some of a thousand clients whose wait ends at the same time.
    """
    return "".join(f"{address} {until};1;1;1;1\n" for address in known)


class _Postfix(Postfix):
    """With postscreen, and the sockets of another one's smtpd at hand. resolver: the name server's address, or "". known: clients."""

    OWN: ClassVar[Mapping[str, str]] = {"system": "etc", **Postfix.OWN}

    def __init__(
        self,
        root: Path,
        port: int,
        settings: Mapping[str, str],
        *,
        sockets: Path,
        resolver: str,
        known: Sequence[str],
    ) -> None:
        services: list[str] = [
            f"127.0.0.1:{port} inet n - n - 1 postscreen",
            "dnsblog unix - - n - 0 dnsblog",
            "tlsproxy unix - - n - 0 tlsproxy",
        ]
        super().__init__(root, settings=settings, services=services)
        self._sockets = sockets
        self._resolver = resolver
        self._known = known

    def _write_configuration(self) -> None:
        super()._write_configuration()
        if self._resolver:
            (self.directory / "system/resolv.conf").write_text(f"nameserver {self._resolver}\n")
        cache = self.directory / "data" / CACHE
        cache.write_text(cache_lines(self._known, round(time.time()) + DAY))
        owner = cache.parent.stat()
        os.chown(cache, owner.st_uid, owner.st_gid)

    def _start_lines(self) -> Sequence[str]:
        return [
            f"mkdir -p root{OTHER_SMTPD}",
            f"mount --bind '{self._sockets}' root{OTHER_SMTPD}",
            f"ln -sf {OTHER_SMTPD}/smtpd spool/private/smtpd",
            f"chroot root postmap btree:/var/lib/postfix/{CACHE}",
            *super()._start_lines(),
        ]


class Postscreen:
    """See the module."""

    name = "postscreen"

    @contextmanager
    def start(self, case: Case) -> Iterator[Running]:
        port = free_port("127.0.0.1", None)
        with ExitStack() as running:
            mta, behind = running.enter_context(passed_to())
            others, resolver = {"mta": behind}, ""
            if case.name_server:
                resolver, others["name server"] = running.enter_context(name_server())
            group = running.enter_context(ControlGroup(self.name))
            postfix = _Postfix(
                make_postfix_root(),
                port,
                SETTINGS | dict(case.postscreen),
                sockets=mta.pass_socket.parent,
                resolver=resolver,
                known=clients() if case.visit else [],
            )
            with group.joined():
                running.enter_context(postfix)
            log = postfix.directory / postfix.LOG
            yield Running(f"127.0.0.1:{port}", group, others, log=log, knows_clients=True)
