"""A real Postfix of a test's own.

Contract: as `harness.mail_server`; it keeps all mail it accepts for other domains than its own in its queue, and asks no name server.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from harness.mail_server import WAIT_TIMEOUT, MailServer
from harness.milter import Milter
from harness.netns import NetworkNamespace
from harness.polling import poll
from harness.postfix_configuration import Handoff, main_cf, master_cf, recipient_table

COOLED_DOWN = 10.0
"""Seconds since a configuration file was changed, as Postfix is told; it takes a younger file for unfinished."""

_IDLE_END_TIMEOUT = 0.5


class Postfix(MailServer):
    """One Postfix.

    listen    -- not used with the hand-off `pass`
    handoff   -- what smtpd expects of whoever connects: `plain` SMTP, a PROXY header (`proxy`), or connections passed as
                 descriptors to the UNIX socket `pass_socket` (`pass`)
    mynetworks -- clients that may relay. None by default; ("127.0.0.0/8",) makes an open relay of a Postfix behind a sidecar
    users     -- the local parts that exist at `domain`; None: all
    settings  -- main.cf parameters that are added or replaced
    milters   -- asked in this order about every client
    services  -- further lines of master.cf
    """

    NAME = "master"
    OWN: ClassVar[Mapping[str, str]] = {
        "spool": "var/spool/postfix",
        "data": "var/lib/postfix",
        "etc": "etc/postfix",
        "log": "var/log",
    }
    STARTED = "daemon started"  # master says so when it listens on all its sockets
    LOG = "log/mail.log"

    def __init__(
        self,
        root: Path,
        *,
        listen: str = "127.0.0.1:0",
        handoff: Handoff = "plain",
        hostname: str = "mail.example.com",
        domain: str = "example.org",
        mynetworks: Sequence[str] = (),
        users: Sequence[str] | None = None,
        settings: Mapping[str, str] | None = None,
        milters: Sequence[Milter] = (),
        services: Sequence[str] = (),
        network: NetworkNamespace | None = None,
    ) -> None:
        super().__init__(root, listen=listen, hostname=hostname, domain=domain, network=network)
        self.handoff: Handoff = handoff
        self._mynetworks = mynetworks
        self._users = users
        self._settings = dict(settings or {})
        self._milters = milters
        self._services = services

    @property
    def pass_socket(self) -> Path:
        """smtpd's socket for passed descriptors, reachable from the machine by root (hand-off `pass`)."""
        return self.directory / "spool/public/smtpd"

    def start(self) -> None:
        """As MailServer's."""
        # Without this file the start-up script checks the whole installation, which takes seconds.
        (self.directory / "spool/quick-start").touch()
        super().start()

    def reload(self, settings: Mapping[str, str] | None = None) -> None:
        """Put `settings` into main.cf, in addition to earlier ones, and have Postfix read its configuration again.

        Processes that serve a client go on with the old one.
        """
        self._settings |= settings or {}
        self._write_configuration()
        before = len(self.log())
        old = set(self._processes("smtpd"))
        self.run(["postfix", "reload"])
        self._wait_for_line(r"master\[\d+\]: reload ", WAIT_TIMEOUT, before)
        # An idle smtpd of before could still take the next client; it ends within milliseconds.
        with suppress(TimeoutError):
            poll(lambda: old.isdisjoint(self._processes("smtpd")), _IDLE_END_TIMEOUT, lambda: "")

    def queue(self) -> list[dict[str, Any]]:
        """What is in its queue, as `postqueue -j` says it: queue_name, queue_id, sender, recipients, …

        Mail on its way to a mailbox is here for a moment; mail for other domains and bounces stay here.
        """
        return [json.loads(line) for line in self.run(["postqueue", "-j"]).splitlines()]

    def _write_configuration(self) -> None:
        settings = main_cf(
            hostname=self.hostname, domain=self.domain, mynetworks=self._mynetworks, mail_uid=self.MAIL_UID
        )
        if self._milters:
            sockets = (
                f"unix:{_milter_folder(i)}/{milter.path.name}" for i, milter in enumerate(self._milters)
            )
            settings["smtpd_milters"] = " ".join(sockets)
        settings |= self._settings
        etc = self.directory / "etc"
        texts = {
            "main.cf": "".join(f"{name} = {value}\n" for name, value in settings.items()),
            "master.cf": master_cf(self.handoff, *self._listen) + "".join(f"{x}\n" for x in self._services),
            "recipients": recipient_table(self.domain, self._users),
        }
        for name, text in texts.items():
            (etc / name).write_text(text)
            # Postfix waits for seconds until a file that was just written "cools down".
            os.utime(etc / name, (time.time() - COOLED_DOWN, time.time() - COOLED_DOWN))

    def _start_lines(self) -> Sequence[str]:
        lines = []
        for i, milter in enumerate(self._milters):
            folder = f"root{_milter_folder(i)}"
            lines += [f"mkdir -p {folder}", f"mount --bind '{milter.path.parent}' {folder}"]
        return [
            *lines,
            # A parameter that Postfix refuses is told to syslog by its start-up program, and on stderr by this one.
            "chroot root /usr/sbin/postmap -q any static:value >/dev/null",
            "chroot root /usr/sbin/postfix start-fg",
        ]


def _milter_folder(index: int) -> str:
    return f"/run/milter{index}"
