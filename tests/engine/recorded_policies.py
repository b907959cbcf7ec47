"""Rules for the policies of the recorded cases: as a sidecar gets them, from document, compiler, wire and decoder."""

from __future__ import annotations

from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_operator.compiler import compile_policy
from postwarden_operator.policy import ConfigMapKey, parse_policy
from postwarden_sidecar.controlclient.decode import FORMATS, decode
from postwarden_sidecar.rules.settings import Rules
from ruamel.yaml import YAML

RESOLVER = "127.0.0.1:5353"


def rules_of(policy: str) -> Rules:
    """As a sidecar gets them."""
    policy = policy.replace("{resolver}", RESOLVER)
    screening, *others = YAML(typ="safe", pure=True).load_all(policy)
    lists = {
        ConfigMapKey(other["metadata"]["name"], key): text.encode()
        for other in others
        for key, text in other["data"].items()
    }
    parsed = parse_policy(screening, strict=True)
    compiled = compile_policy(parsed, lists)
    snapshot = pb.Snapshot(
        namespace="default",
        name=parsed.metadata.name,
        revision=compiled.revision,
        version=compiled.version,
        format=FORMATS[0],
        required_features=compiled.required_features,
        rules=compiled.rules,
    )
    for blob in compiled.blobs.values():
        snapshot.blobs.add(hash=blob.hash, format=blob.format, size=len(blob.data), data=blob.data)
    return decode(pb.Snapshot.FromString(snapshot.SerializeToString()), {})
