"""A real OpenSMTPD of a test's own, Debian's.

Contract: as `harness.mail_server`. It takes mail for its own domain only, and asks no name server that is not on this machine.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from harness.documented import DOCUMENTED_PORT
from harness.mail_server import MailServer
from harness.netns import NetworkNamespace

CONFIGURATION = "/srv/smtpd.conf"
"""As smtpd sees it: /etc holds more than is its own."""

CERTIFICATE = "/srv/certificate.pem"
KEY = "/srv/key.pem"


class OpenSmtpd(MailServer):
    """One OpenSMTPD.

    lines   -- `listen on` and `match`; DOCUMENTED_PORT becomes its own. The action that puts mail into mailboxes is "local"
    users   -- the local parts that exist at `domain`; None: all
    certificate -- key and certificate; with it STARTTLS is offered
    """

    NAME = "smtpd"
    OWN: ClassVar[Mapping[str, str]] = {"spool": "var/spool", "etc": "srv"}
    STARTED = "smtp: will accept at most"  # after it listens
    LOG = "output"
    MAIL_UID = 8  # `mail`, a user of Debian's: smtpd wants a name

    def __init__(
        self,
        root: Path,
        *,
        listen: str = "127.0.0.1:0",
        lines: Sequence[str],
        hostname: str = "mail.example.com",
        domain: str = "example.org",
        users: Sequence[str] | None = None,
        certificate: bytes | None = None,
        network: NetworkNamespace | None = None,
    ) -> None:
        super().__init__(root, listen=listen, hostname=hostname, domain=domain, network=network)
        self._lines = list(lines)
        self._users = users
        self._certificate = certificate

    def _write_configuration(self) -> None:
        etc = self.directory / "etc"
        pki = []
        if self._certificate is not None:
            for path in (CERTIFICATE, KEY):
                (etc / Path(path).name).write_bytes(self._certificate)
                (etc / Path(path).name).chmod(0o600)
            pki = [f'pki {self.hostname} cert "{CERTIFICATE}"', f'pki {self.hostname} key "{KEY}"']
        addresses = ["@"] if self._users is None else [f"{user}@{self.domain}" for user in self._users]
        mailboxes = ", ".join(f'"{address}" = mail' for address in addresses)
        lines = [
            *pki,
            f"table mailboxes {{ {mailboxes} }}",
            'action "local" maildir "/var/mail/all" virtual <mailboxes>',
            *(line.replace(DOCUMENTED_PORT, str(self.port)) for line in self._lines),
        ]
        (etc / "smtpd.conf").write_text("\n".join(lines) + "\n")

    def _start_lines(self) -> Sequence[str]:
        return [f"chroot root /usr/sbin/smtpd -d -v -f {CONFIGURATION}"]
