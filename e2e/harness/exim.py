"""A real Exim of a test's own: Debian's exim4-daemon-heavy, the package that is built with support for the PROXY protocol.

Contract: as `harness.mail_server`. Mail for other domains goes to `smarthost`, or stays in the queue. Nothing asks a name server.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from harness.documented import DOCUMENTED_PORT
from harness.mail_server import WAIT_TIMEOUT, MailServer
from harness.netns import NetworkNamespace
from harness.polling import poll
from harness.postfix_configuration import split_address

CERTIFICATE = "/etc/exim4/tls.pem"
"""Key and certificate, as Exim sees them (see `harness.tls_certificate`)."""


class Exim(MailServer):
    """One Exim.

    lines     -- of the main section, added at its end; in those that set its port, DOCUMENTED_PORT becomes its own
    relays_for -- clients that may relay, an address or network each
    users     -- the local parts that exist at `domain`; None: all
    certificate -- key and certificate; with it STARTTLS is offered
    smarthost -- `HOST:PORT` that mail for other domains goes to
    transport -- lines of the transport that sends it
    """

    NAME = "exim4"
    OWN: ClassVar[Mapping[str, str]] = {
        "spool": "var/spool/exim4",
        "etc": "etc/exim4",
        "log": "var/log/exim4",
    }
    STARTED = "daemon started"
    LOG = "log/mainlog"

    def __init__(
        self,
        root: Path,
        *,
        listen: str = "127.0.0.1:0",
        lines: Sequence[str] = (),
        hostname: str = "mail.example.com",
        domain: str = "example.org",
        relays_for: Sequence[str] = (),
        users: Sequence[str] | None = None,
        certificate: bytes | None = None,
        smarthost: str | None = None,
        transport: Sequence[str] = (),
        network: NetworkNamespace | None = None,
    ) -> None:
        super().__init__(root, listen=listen, hostname=hostname, domain=domain, network=network)
        self._lines = list(lines)
        self._relays_for = relays_for
        self._users = users
        self._certificate = certificate
        self._smarthost = smarthost
        self._transport = transport

    def deliver_queue(self) -> None:
        """Run its queue until it is empty, whatever the retry rules say: a mail that is just being put off is locked, and passed over.
        Raises TimeoutError with the log."""

        def emptied() -> bool:
            self.run(["exim4", "-qff"])
            return self.run(["exim4", "-bpc"]).strip() == "0"

        poll(emptied, WAIT_TIMEOUT, lambda: f"its queue stays; {self._title}:\n{self._account()}")

    def restart_with(self, lines: Sequence[str]) -> None:
        """Other lines of the main section; its port is as before."""
        self._lines = list(lines)
        self._write_configuration()
        self.restart()

    def _write_configuration(self) -> None:
        etc = self.directory / "etc"
        if self._certificate is not None:
            (etc / Path(CERTIFICATE).name).write_bytes(self._certificate)
            (etc / Path(CERTIFICATE).name).chmod(0o644)
        (etc / "exim4.conf").write_text("\n".join([*self._main(), *self._sections()]) + "\n")

    def _main(self) -> list[str]:
        tls = [f"tls_certificate = {CERTIFICATE}", "tls_advertise_hosts = *"]
        return [
            f"primary_hostname = {self.hostname}",
            f"domainlist local_domains = {self.domain}",
            *self._default("local_interfaces", f"<; [{self.host}]:{self.port}"),
            *self._default("hostlist relay_from_hosts", f"<; {' ; '.join(self._relays_for)}"),
            "acl_smtp_rcpt = recipients",
            "log_file_path = /var/log/exim4/%slog",
            # Extensions that are off without this line.
            "smtputf8_advertise_hosts = *",
            "dsn_advertise_hosts = *",
            "rfc1413_query_timeout = 0s",
            # Its name belongs to the network, which others share.
            "notifier_socket =",
            "smtp_accept_max = 100",
            "keep_environment =",
            *(tls if self._certificate is not None else ["tls_advertise_hosts ="]),
            *(line.replace(DOCUMENTED_PORT, str(self.port)) for line in self._lines),
        ]

    def _default(self, name: str, value: str) -> list[str]:
        """The setting, unless the test has one: Exim takes none twice."""
        return [] if any(line.startswith(name) for line in self._lines) else [f"{name} = {value}"]

    def _sections(self) -> list[str]:
        local_parts = [] if self._users is None else [f"  local_parts = {' : '.join(self._users)}"]
        return [
            "begin acl",
            "recipients:",
            "  accept hosts = +relay_from_hosts",
            "  require message = relay not permitted",
            "          domains = +local_domains",
            "  require verify = recipient",
            "  accept",
            "begin routers",
            "elsewhere:",
            "  driver = manualroute" if self._smarthost else "  driver = redirect",
            "  domains = !+local_domains",
            *self._route(),
            "  no_more",
            "here:",
            "  driver = accept",
            *local_parts,
            "  transport = maildir",
            "begin transports",
            "smtp:",
            "  driver = smtp",
            # No TLSA records are looked for. (A certificate that nobody signed is looked at, and taken.)
            "  hosts_try_dane =",
            *(f"  {line}" for line in self._transport),
            "maildir:",
            "  driver = appendfile",
            "  maildir_format",
            "  directory = /var/mail/all",
            "  headers_add = Delivered-To: $local_part@$domain",
            f"  user = {self.MAIL_UID}",
            f"  group = {self.MAIL_UID}",
            "begin retry",
            "* * F,1h,1s",
        ]

    def _route(self) -> list[str]:
        if self._smarthost is None:
            return ["  allow_defer", "  data = :defer: leaves for nowhere"]
        host, port = split_address(self._smarthost)
        # The smarthost is an address of this machine, which Exim would take for a loop.
        return [f"  route_list = * {host}::{port}", "  transport = smtp", "  self = send"]

    def _start_lines(self) -> Sequence[str]:
        return ["chroot root /usr/sbin/exim4 -bdf -q1h"]
