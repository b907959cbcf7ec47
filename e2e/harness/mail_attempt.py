"""What a client hears of a screened mail server: its first reply, or the last of a whole delivery.

Contract: a connection for each call, which ends as a polite client ends it. Texts are the last line of a reply, code and all; "" where
the connection ended without one.
"""

from harness.polling import poll
from harness.sidecar_process import SidecarProcess
from harness.smtp import Client

ENFORCED_WITHIN = 15.0
"""Seconds from a change in the cluster to what clients hear, while all are there. The project promises 2, which the benchmark measures; a
machine that other tests keep busy needs more."""


def hears(sidecar: SidecarProcess, source: str, begins: str, within: float = ENFORCED_WITHIN) -> None:
    """Wait until that client's first reply begins so. Raises TimeoutError, with the end of the sidecar's log."""
    poll(
        lambda: first_reply(sidecar.address, source).startswith(begins),
        within,
        lambda: f"{source} does not hear {begins}:\n{sidecar.said()}",
    )


def first_reply(address: str, source: str, *, announced: str | None = None) -> str:
    """`source`: the loopback address that the client comes from. `announced`: the IPv4 address that it tells first, by a PROXY header
    of version 1 with the port 40000, as a load balancer does for its clients."""
    with _client(address, source) as client:
        if announced is not None:
            client.send(f"PROXY TCP4 {announced} 192.0.2.25 40000 25\r\n".encode())
        try:
            said = client.reply()
            if said.code == 220:
                client.ask("QUIT")
        except EOFError:
            return ""
        return str(said)


def last_reply_to_mail(address: str, source: str, *, recipient: str = "someone@example.org") -> str:
    """To the mail itself, or the first refusal."""
    message = f"From: sender@client.test\r\nTo: {recipient}\r\nSubject: hello\r\n\r\nhello\r\n."
    with _client(address, source) as client:
        last = ""
        try:
            said = client.reply()
            last = str(said)
            for line in (
                "EHLO client.test",
                "MAIL FROM:<sender@client.test>",
                f"RCPT TO:<{recipient}>",
                "DATA",
                message,
            ):
                if said.code >= 400:
                    break
                said = client.ask(line)
                last = str(said)
            if said.code not in (421, 521):
                client.ask("QUIT")
        except EOFError:
            return last
        return last


def _client(address: str, source: str) -> Client:
    host, _, port = address.rpartition(":")
    return Client(host, int(port), source=source)
