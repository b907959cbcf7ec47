"""Snapshots as the operator's compiler makes them, for tests."""

from __future__ import annotations

import hashlib

from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_sidecar.rules.intervals import AddressTable


def snapshot(version: str = "v1", nonce: str = "n1", *, banner: str | None = "") -> pb.Snapshot:
    """A whole policy that hands everybody over. banner "": pregreet is off."""
    rules = pb.Rules(
        mode=pb.MODE_ENFORCE,
        access=pb.Access(reject_action=pb.ACTION_DROP),
        pregreet=pb.Pregreet(action=pb.ACTION_ENFORCE, wait_ms=6000, ttl_ms=86_400_000),
        telemetry=pb.Telemetry(log_format=pb.LOG_FORMAT_JSON, envelope_addresses=pb.ENVELOPE_ADDRESSES_FULL),
    )
    if banner is not None:
        rules.pregreet.banner = banner
    return pb.Snapshot(
        policy_uid="uid",
        namespace="mail",
        name="inbound",
        generation=3,
        revision=f"rev-{version}",
        version=version,
        nonce=nonce,
        format="rules/1",
        rules=rules,
    )


def add_rule(
    message: pb.Snapshot, networks: list[tuple[str, int, int]], *, inline: bool = True
) -> dict[str, bytes]:
    """Add an access rule of (network, action, line); returns hash -> content of what is not inline."""
    table = AddressTable.from_networks(networks)
    rule = message.rules.access.rules.add(field=f"spec.access.rules[{len(message.rules.access.rules)}]")
    left_out: dict[str, bytes] = {}
    for shards, hashes, kind in ((table.v4, rule.table.ipv4, "iv4/1"), (table.v6, rule.table.ipv6, "iv6/1")):
        for shard in shards:
            content = bytes(shard)
            digest = add_blob(message, content, kind, inline=inline)
            hashes.append(digest)
            if not inline:
                left_out[digest] = content
    return left_out


def add_blob(message: pb.Snapshot, content: bytes, kind: str, *, inline: bool = True) -> str:
    digest = hashlib.sha256(content).hexdigest()
    message.blobs.add(hash=digest, format=kind, size=len(content), data=content if inline else b"")
    return digest
