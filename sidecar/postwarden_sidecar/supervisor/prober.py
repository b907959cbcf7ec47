"""The I/O of a proof: connect to the MTA as a hand-off would, and let `handoff.proof` speak."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Collection

from postwarden_sidecar.handoff.proof import UNPROVED, Proof, ProofResult, combined, proofs
from postwarden_sidecar.handoff.smtpd_pass import DESCRIPTOR_PAYLOAD, encode_attributes
from postwarden_sidecar.rules.settings import Handoff, Upstream

CONNECT_TCP, CONNECT_UNIX = 5.0, 1.0  # seconds (design)
SILENCE = 30.0  # seconds that the MTA may say nothing: the greeting's limit of the design
WHOLE = 90.0  # seconds for one proof: a slow greeting, and a slow answer to RCPT
EXPOSED_TIMEOUT = 1.0  # seconds; within a pod an address answers at once or never
_CHUNK = 4096  # bytes


async def prove(upstream: Upstream) -> ProofResult:
    """All proofs of the hand-off, one after the other; the worst counts. Never raises for what the MTA
    does."""
    results = []
    for proof in proofs(upstream.handoff):
        results.append(await _prove_once(upstream, proof))
    return combined(results)


async def answers(host: str, port: int) -> bool:
    """Whether a TCP connection to that address is accepted."""
    try:
        async with asyncio.timeout(EXPOSED_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    await _close(writer)
    return True


async def exposed(upstream: Upstream | None, pod_ip: str | None, redirected: Collection[int]) -> str:
    """Why anyone could write itself an address to the MTA, or "". pod_ip: None: not known. redirected: ports of the pod where we answer
    whoever comes from outside: that the MTA answers there from inside says nothing of others."""
    if pod_ip is None or upstream is None or upstream.target.startswith("unix:"):
        return ""
    if upstream.handoff not in (Handoff.PROXY_V1, Handoff.PROXY_V2):
        return ""
    port = int(upstream.target.rpartition(":")[2])
    if port in redirected or not await answers(pod_ip, port):
        return ""
    what = f"the MTA's port {port} answers on {pod_ip}: any pod may write itself an address there"
    return f"{what}; let the MTA listen on loopback only"


async def _prove_once(upstream: Upstream, proof: Proof) -> ProofResult:
    try:
        async with asyncio.timeout(CONNECT_UNIX if _socket_path(upstream) else CONNECT_TCP):
            streams, control = await _connect(upstream)
    except TimeoutError:
        return ProofResult(UNPROVED, f"no connection to the MTA at {upstream.target} in time")
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)  # asyncio's own text hides the reason
        return ProofResult(UNPROVED, f"no connection to the MTA at {upstream.target}: {why}")
    reader, writer = streams
    try:
        peer = writer.get_extra_info("socket")
        if peer.family == socket.AF_UNIX:
            proof.begin(None, None)
        else:
            proof.begin(peer.getsockname()[:2], peer.getpeername()[:2])
        await _speak(proof, reader, writer)
    finally:
        await _close(writer)
        if control is not None:
            control.close()
    assert proof.result is not None
    return proof.result


async def _speak(proof: Proof, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(WHOLE):
            while proof.result is None:
                if data := proof.data_to_send():
                    writer.write(data)
                    await writer.drain()
                async with asyncio.timeout(SILENCE):
                    received = await reader.read(_CHUNK)
                if received:
                    proof.receive_bytes(received)
                else:
                    proof.receive_eof()
    except TimeoutError:
        proof.timed_out()
    except OSError:
        proof.receive_eof()


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(upstream: Upstream) -> tuple[_Streams, socket.socket | None]:
    """The session with the MTA, and for `Pass` the socket that passed it, to be closed after the session."""
    path = _socket_path(upstream)
    if path is None:
        host, _, port = upstream.target.rpartition(":")
        return await asyncio.open_connection(host.strip("[]"), int(port)), None
    if upstream.handoff is not Handoff.PASS:
        return await asyncio.open_unix_connection(path), None
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await asyncio.get_running_loop().sock_connect(control, path)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            # A few bytes into an empty buffer: they fit at once.
            socket.send_fds(control, [DESCRIPTOR_PAYLOAD], [theirs.fileno()])
            control.sendall(encode_attributes("127.0.0.1", 0, "127.0.0.1", 25))
        return await asyncio.open_unix_connection(sock=ours), control
    except BaseException:
        control.close()
        raise


def _socket_path(upstream: Upstream) -> str | None:
    return upstream.target.removeprefix("unix:") if upstream.target.startswith("unix:") else None


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
