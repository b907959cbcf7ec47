"""A policy document and its lists become what is wanted of sidecars, or the reason why not.

Contract: a policy whose document and lists did not change is not compiled again: a list of a million lines
costs seconds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_operator.compiler import CompileFailed, ListContent, SecretContent, compile_policy
from postwarden_operator.controlplane.wanted import Managed, managed
from postwarden_operator.policy import (
    ConfigMapKey,
    FieldError,
    PolicyInvalid,
    ScreeningPolicy,
    SecretKey,
    config_map_references,
    parse_policy,
    secret_references,
)
from postwarden_operator.reconcile.world import World

FORMAT = "rules/1"
"""What Snapshot.format says: the Rules message of this .proto."""

SHOWN_ERRORS = 3
"""Errors named in a condition's message; a person mends these first."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A condition's reason and message."""

    reason: str
    message: str


VALID = Reason("Valid", "the policy is valid")
RESOLVED = Reason("Resolved", "every list and every key is found and can be read")
UNKNOWN = Reason("Invalid", "not looked at, for the policy is invalid")


@dataclass(frozen=True, slots=True)
class Compilation:
    """managed: None where it did not compile. errors: all of them, with their field paths."""

    accepted: Reason
    resolved: Reason
    managed: Managed | None
    errors: tuple[FieldError, ...] = ()


@dataclass(frozen=True, slots=True)
class _Done:
    document: Mapping[str, object]
    policy: ScreeningPolicy | None
    lists: Mapping[ConfigMapKey, ListContent]
    secrets: Mapping[SecretKey, SecretContent]
    result: Compilation


class Compiler:
    """Compiles documents and remembers the last result of each policy. strict: unknown fields are errors."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._done: dict[str, _Done] = {}

    def compile(self, identity: str, document: Mapping[str, object], world: World) -> Compilation:
        """identity: the policy's uid, or what stands for it."""
        compared = {key: value for key, value in document.items() if key != "status"}
        last = self._done.get(identity)
        if last is None or last.document != compared:
            try:
                policy = parse_policy(document, strict=self._strict)
            except PolicyInvalid as invalid:
                result = Compilation(
                    Reason("Invalid", summary(invalid.errors)), UNKNOWN, None, invalid.errors
                )
                self._done[identity] = _Done(compared, None, {}, {}, result)
                return result
        elif last.policy is None:
            return last.result
        else:
            policy = last.policy
        namespace = policy.metadata.namespace
        lists = {key: world.list_content(namespace, key) for key in config_map_references(policy)}
        secrets = {key: world.secret_content(namespace, key) for key in secret_references(policy)}
        if last is None or last.document != compared or last.lists != lists or last.secrets != secrets:
            result = _compiled(identity, policy, lists, secrets)
            last = _Done(compared, policy, lists, secrets, result)
            self._done[identity] = last
        return last.result

    def keep_only(self, identities: Iterable[str]) -> None:
        """Forget the policies that are gone."""
        kept = set(identities)
        self._done = {identity: done for identity, done in self._done.items() if identity in kept}


def _compiled(
    identity: str,
    policy: ScreeningPolicy,
    lists: Mapping[ConfigMapKey, ListContent],
    secrets: Mapping[SecretKey, SecretContent],
) -> Compilation:
    try:
        compiled = compile_policy(policy, lists, secrets)
    except CompileFailed as failed:
        return Compilation(VALID, Reason(failed.reason, summary(failed.errors)), None, failed.errors)
    snapshot = pb.Snapshot(
        policy_uid=identity,
        namespace=policy.metadata.namespace,
        name=policy.metadata.name,
        generation=policy.metadata.generation or 0,
        revision=compiled.revision,
        version=compiled.version,
        format=FORMAT,
        required_features=compiled.required_features,
        rules=compiled.rules,
    )
    blobs = ((blob.hash, blob.format, blob.data) for blob in compiled.blobs.values())
    return Compilation(VALID, RESOLVED, managed(snapshot, blobs))


def summary(errors: tuple[FieldError, ...]) -> str:
    """The first few errors, and how many more there are."""
    text = "; ".join(map(str, errors[:SHOWN_ERRORS]))
    return f"{text}; and {len(errors) - SHOWN_ERRORS} more" if len(errors) > SHOWN_ERRORS else text
