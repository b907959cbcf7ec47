"""The configuration of a test's Postfix: main.cf, master.cf and the table of recipients, as text.

Contract: mail for the domain goes to one maildir, with the recipient in its Delivered-To header; all other mail that Postfix
accepts is deferred and stays in the queue; nothing needs a name server, syslog, or a chroot of Postfix's own.
"""

import re
import socket
from collections.abc import Sequence
from typing import Literal

from harness.netns import NetworkNamespace

Handoff = Literal["plain", "proxy", "pass"]

_SERVICES = """\
pickup     unix       n - n 60    1 pickup
cleanup    unix       n - n -     0 cleanup
qmgr       unix       n - n 300   1 qmgr
tlsmgr     unix       - - n 1000? 1 tlsmgr
rewrite    unix       - - n -     - trivial-rewrite
bounce     unix       - - n -     0 bounce
defer      unix       - - n -     0 bounce
trace      unix       - - n -     0 bounce
verify     unix       - - n -     1 verify
flush      unix       n - n 1000? 0 flush
proxymap   unix       - - n -     - proxymap
showq      unix       n - n -     - showq
error      unix       - - n -     - error
retry      unix       - - n -     - error
smtp       unix       - - n -     - smtp
virtual    unix       - n n -     - virtual
anvil      unix       - - n -     1 anvil
postlog    unix-dgram n - n -     1 postlogd
"""


def main_cf(*, hostname: str, domain: str, mynetworks: Sequence[str], mail_uid: int) -> dict[str, str]:
    """The parameters of main.cf that differ from Postfix's defaults."""
    return {
        "compatibility_level": "3.6",
        "myhostname": hostname,
        "mydestination": domain,
        "mynetworks": " ".join(mynetworks),
        "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
        "maillog_file": "/var/log/mail.log",
        "alias_maps": "",
        "alias_database": "",
        # All local mail in one folder: virtual(8) needs no system users and writes Delivered-To.
        "local_transport": "virtual",
        "local_recipient_maps": "regexp:/etc/postfix/recipients",
        "virtual_mailbox_maps": "regexp:/etc/postfix/recipients",
        "virtual_mailbox_base": "/var/mail",
        "virtual_uid_maps": f"static:{mail_uid}",
        "virtual_gid_maps": f"static:{mail_uid}",
        # Bounces and relayed mail leave for nowhere. (The transport `retry` would refuse them at RCPT already.)
        "defer_transports": "smtp relay",
        "smtpd_peername_lookup": "no",
        "smtp_host_lookup": "native",
        "smtp_dns_support_level": "disabled",
    }


def master_cf(handoff: Handoff, host: str, port: int) -> str:
    """master.cf with smtpd behind the socket that `handoff` needs."""
    bracketed = f"[{host}]" if ":" in host else host
    smtpd = {
        "plain": f"{bracketed}:{port} inet n - n - - smtpd",
        "proxy": f"{bracketed}:{port} inet n - n - - smtpd -o smtpd_upstream_proxy_protocol=haproxy",
        # Not private: the socket is in public/, as in Postfix's documentation of postscreen it is in private/.
        "pass": "smtpd pass n - n - - smtpd",
    }
    return f"{smtpd[handoff]}\n{_SERVICES}"


def recipient_table(domain: str, users: Sequence[str] | None) -> str:
    """The regexp table of the addresses that exist: all of `domain`, or those of `users`; all lead to the same maildir."""
    local_part = "[^@]+" if users is None else f"({'|'.join(map(re.escape, users))})"
    return f"/^{local_part}@{re.escape(domain)}$/ all/\n"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[HOST]:PORT`. Raises ValueError for anything else."""
    if not (found := re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^][:]+)):(\d{1,5})", address)):
        raise ValueError(f"{address!r} is not HOST:PORT, nor [HOST]:PORT for IPv6")
    return found[1] or found[2], int(found[3])


def join_address(host: str, port: int) -> str:
    """The inverse of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def free_port(host: str, network: NetworkNamespace | None) -> int:
    """A TCP port of `host` that nothing listens on now."""

    def find() -> int:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
            port: int = probe.getsockname()[1]
            return port

    return find() if network is None else network.call(find)
