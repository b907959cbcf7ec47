"""SMTP clients that are somebody else's work, each by one function: `send(host, port, source, tls)` sends a small mail to a user at
example.org that has the client's name in `SENDERS`.

Contract: a client comes from the loopback address `source`; with `tls` it insists on STARTTLS, and takes any certificate. Each raises an
exception of its own where the mail is not taken.
"""

import asyncio
import smtplib
import ssl
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import aiosmtplib

from harness.postfix_configuration import join_address
from harness.smtp import TIMEOUT, mail_to, send_with_swaks


def unverified() -> ssl.SSLContext:
    """TLS with a server whose certificate nobody signed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def send_swaks(host: str, port: int, source: str, tls: bool) -> None:
    """The command `swaks`."""
    options = ["--tls"] if tls else []
    send_with_swaks("swaks", join_address(host, port), "swaks@example.org", *options, source=source)


def send_aiosmtplib(host: str, port: int, source: str, tls: bool) -> None:
    """In a thread of its own: asyncio.run would take the event loop of pytest's plugin."""

    async def send() -> None:
        client = aiosmtplib.SMTP(
            hostname=host,
            port=port,
            start_tls=tls,
            tls_context=unverified() if tls else None,
            timeout=TIMEOUT,
            source_address=(source, 0),
        )
        async with client:
            await client.send_message(mail_to("aio@example.org", "hello"))
            transport = client.transport
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()  # after QUIT it would wait for the server's end of TLS, which the loop does not outlive
        await asyncio.sleep(0)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(send())).result()


def send_smtplib(host: str, port: int, source: str, tls: bool) -> None:
    """Python's own."""
    with smtplib.SMTP(host, port, timeout=TIMEOUT, source_address=(source, 0)) as client:
        if tls:
            client.starttls(context=unverified())
        client.send_message(mail_to("std@example.org", "hello"))


def send_msmtp(host: str, port: int, source: str, tls: bool) -> None:
    """The command `msmtp`."""
    options = ["--tls=on", "--tls-starttls=on", "--tls-certcheck=off"] if tls else ["--tls=off"]
    server = [f"--host={host}", f"--port={port}", f"--source-ip={source}"]
    subprocess.run(
        ["msmtp", *server, "--from=alice@client.example", "--auth=off", *options, "msmtp@example.org"],
        input=bytes(mail_to("msmtp@example.org", "hello")),
        check=True,
        timeout=60,
    )


SENDERS: dict[str, Callable[[str, int, str, bool], None]] = {
    "swaks": send_swaks,
    "aio": send_aiosmtplib,
    "std": send_smtplib,
    "msmtp": send_msmtp,
}
"""By the local part that each sends to. swaks and msmtp must be installed (the fixtures of these names)."""
