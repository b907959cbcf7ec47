"""The mail servers of examples/, run as their ConfigMaps configure them.

Contract: as harness.mail_server, at 127.0.0.1:25 of a network of the test's own. Postfix logs to a file: its /dev/stdout needs a
container. Mailboxes are in the tests' folder.
"""

from collections.abc import Sequence
from pathlib import Path

from example_files import EXAMPLES, text_of
from ruamel.yaml import YAML

from harness.exim import Exim
from harness.mail_server import MailServer
from harness.netns import NetworkNamespace
from harness.opensmtpd import OpenSmtpd
from harness.postfix import Postfix
from harness.postfix_configuration import master_cf

LISTEN = "127.0.0.1:25"


class ExamplePostfix(Postfix):
    """folder: `postfix` or `postfix-pass`."""

    def __init__(self, root: Path, folder: str, network: NetworkNamespace) -> None:
        super().__init__(root, listen=LISTEN, network=network)
        self._folder = folder

    def _write_configuration(self) -> None:
        for name in ("main.cf", "master.cf"):
            text = text_of(f"{self._folder}/postfix.yaml", name)
            (self.directory / "etc" / name).write_text(text.replace("/dev/stdout", "/var/log/mail.log"))


class ExampleExim(Exim):
    MAIL_UID = 8  # `mail`, as the example says

    def __init__(self, root: Path, network: NetworkNamespace) -> None:
        super().__init__(root, listen=LISTEN, network=network)

    def _write_configuration(self) -> None:
        (self.directory / "etc/exim4.conf").write_text(text_of("exim/exim.yaml", "exim4.conf"))


class ExampleOpenSmtpd(OpenSmtpd):
    def __init__(self, root: Path, network: NetworkNamespace) -> None:
        super().__init__(root, listen=LISTEN, lines=[], network=network)

    def _write_configuration(self) -> None:
        (self.directory / "etc/smtpd.conf").write_text(text_of("opensmtpd/opensmtpd.yaml", "smtpd.conf"))


class PatchedPostfix(Postfix):
    """Postfix with services as docker-mailserver has them, which is not to be had here, changed by the example's user-patches.sh."""

    def __init__(self, root: Path, network: NetworkNamespace) -> None:
        super().__init__(root, listen=LISTEN, network=network)

    def _write_configuration(self) -> None:
        super()._write_configuration()
        _, *others = master_cf("plain", "127.0.0.1", 25).splitlines()
        services = [
            "smtp       inet  n       -       n       -       1       postscreen",
            "smtpd      pass  -       -       n       -       -       smtpd",
            "  -o syslog_name=postfix/inbound",
            *others,
        ]
        (self.directory / "etc/master.cf").write_text("\n".join(services) + "\n")
        values = YAML(typ="safe").load(EXAMPLES / "docker-mailserver/values.yaml")
        script = values["configMaps"]["user-patches.sh"]["data"]
        (self.directory / "etc/user-patches.sh").write_text(script)

    def _start_lines(self) -> Sequence[str]:
        return ["chroot root /bin/bash -eu /etc/postfix/user-patches.sh", *super()._start_lines()]


EXAMPLE_SERVERS = ("postfix", "postfix-pass", "exim", "opensmtpd", "docker-mailserver")


def example_server(example: str, root: Path, network: NetworkNamespace) -> MailServer:
    """The mail server of examples/EXAMPLE."""
    match example:
        case "exim":
            return ExampleExim(root, network)
        case "opensmtpd":
            return ExampleOpenSmtpd(root, network)
        case "docker-mailserver":
            return PatchedPostfix(root, network)
        case _:
            return ExamplePostfix(root, example, network)
