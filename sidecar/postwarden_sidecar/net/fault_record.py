"""The record of a connection that a defect of ours ended."""

from __future__ import annotations

from postwarden_sidecar.engine.record import Record, Verdict


def fault_record(peer: tuple[str, int], local: tuple[str, int], started: float, duration: float) -> Record:
    """Verdict error. started: epoch seconds; duration: seconds."""
    return Record(
        started=started,
        duration=duration,
        verdict=Verdict.ERROR,
        reason="an internal error of the sidecar ended the connection; its log has the details",
        client_address=peer[0],
        client_port=peer[1],
        server_address=local[0],
        server_port=local[1],
        peer_address=peer[0],
        peer_port=peer[1],
        proxied=False,
    )
