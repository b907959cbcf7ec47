"""Names for what a policy amounts to.

Contract: `revision` is the same for documents that mean the same, in whatever order their fields stand and whether defaults are spelled
out or left out; it changes with any field with any byte of a list, and with the
version of a Secret, never with what the Secret holds. Status is judged by it. `version` also changes with the compiler,
so that a new operator sends rules again which it compiles differently.
"""

import hashlib
import json
from collections.abc import Mapping

from postwarden_operator.policy import ConfigMapKey, ScreeningPolicy, SecretKey

COMPILER_RELEASE = 3
"""Raised by whoever changes what is compiled from the same policy and lists."""

_REVISION_DIGITS = 16
"""Hexadecimal: 64 bits tell apart all revisions that a policy will ever have, and fit into a table's column."""


def revision_of(
    policy: ScreeningPolicy,
    digests: Mapping[ConfigMapKey, str],
    secret_versions: Mapping[SecretKey, str] | None = None,
) -> str:
    """Hash of the canonical spec, of its lists, and of its Secrets' versions. digests: of each list's content, its SHA-256."""
    canonical = {
        "spec": _canonical_spec(policy),
        "lists": {f"{key.name}/{key.key}": digest for key, digest in digests.items()},
        "secrets": {f"{key.name}/{key.key}": version for key, version in (secret_versions or {}).items()},
    }
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_REVISION_DIGITS]


def version_of(revision: str) -> str:
    """Of a revision compiled by this release."""
    return f"{revision}-{COMPILER_RELEASE}"


def _canonical_spec(policy: ScreeningPolicy) -> dict[str, object]:
    spec: dict[str, object] = policy.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    upstream = policy.spec.upstream
    if upstream is not None and upstream.target_port is not None:
        # The one default that the schema can't fill in: it would stand beside a socket.
        spec["upstream"] = {"port": upstream.target_port, "handoff": upstream.handoff.value}
    return spec
