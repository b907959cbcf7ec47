"""A policy document and its lists become what is wanted of sidecars, or the reason why not.

Contract: a policy whose document and lists did not change is not compiled again. Large lists cost a second: once `compile_elsewhere` was
called, such a policy is compiled beside the loop, what was wanted before stays wanted meanwhile, and no other policy waits for it. Of
several changes to it the latest counts.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_operator.compiler import (
    Compiled,
    CompiledList,
    CompileFailed,
    ListContent,
    ListText,
    SecretContent,
    compile_list,
    compile_policy,
    digest_of,
)
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
from postwarden_operator.reconcile.list_process import ProcessLost
from postwarden_operator.reconcile.list_tables import ListTables
from postwarden_operator.reconcile.world import World

FORMAT = "rules/1"
"""What Snapshot.format says: the Rules message of this .proto."""

LARGEST_SNAPSHOT = 1024 * 1024
"""Bytes of a Snapshot with its Rules, and the names of its blobs (design). Sidecars take messages of twice that."""

LARGEST_BLOBS = 256 * 1024 * 1024
"""Bytes of all blobs of a policy: what a sidecar takes."""

RETRY_DELAY = 60.0
"""Seconds after which lists that the process did not survive are tried again: they may have met a lack of memory that is over."""

SHOWN_ERRORS = 3
"""Errors named in a condition's message; a person mends these first."""


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reason:
    """A condition's reason and message."""

    reason: str
    message: str


VALID = Reason("Valid", "the policy is valid")
RESOLVED = Reason("Resolved", "every list and every key is found and can be read")
COMPILING = Reason("Pending", "its lists are being compiled")
UNKNOWN = Reason("Invalid", "not looked at, for the policy is invalid")


@dataclass(frozen=True, slots=True)
class Compilation:
    """managed: None where it did not compile. errors: all of them, with their field paths.

    compiling: the newest document and lists are being compiled still; managed is what they were compiled to before, if they were.
    """

    accepted: Reason
    resolved: Reason
    managed: Managed | None
    errors: tuple[FieldError, ...] = ()
    compiling: bool = False
    took: tuple[float, float] | None = field(default=None, compare=False)
    """Epoch seconds when compiling began and ended; None where there was nothing to compile."""


@dataclass(frozen=True, slots=True)
class _Input:
    """document: without its status. policy: None where nothing but the document counts: it is invalid, or names no lists and no keys.

    (A policy as an object takes 11 KB.) source: the document as it was given.
    """

    document: Mapping[str, object]
    policy: ScreeningPolicy | None
    lists: Mapping[ConfigMapKey, ListContent]
    secrets: Mapping[SecretKey, SecretContent]
    source: Mapping[str, object] = field(compare=False)

    def is_just(self, document: Mapping[str, object]) -> bool:
        """Made of this very object, which therefore did not change, and of nothing else."""
        return self.source is document and self.policy is None


@dataclass(frozen=True, slots=True)
class _Done:
    input: _Input
    result: Compilation


@dataclass(frozen=True, slots=True)
class _Job:
    """meanwhile: what is told until it is done."""

    input: _Input
    meanwhile: Compilation
    task: asyncio.Task[None]


class Compiler:
    """Compiles documents and remembers the last result of each policy. strict: unknown fields are errors."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._done: dict[str, _Done] = {}
        self._jobs: dict[str, _Job] = {}
        self._tables: ListTables | None = None
        self._changed: Callable[[], None] = lambda: None

    def compile_elsewhere(self, tables: ListTables, changed: Callable[[], None]) -> None:
        """From now on large lists are compiled by `tables`; changed: called when `compile` has another answer by that."""
        self._tables, self._changed = tables, changed

    def close(self) -> None:
        """Give up what is being compiled."""
        for identity in tuple(self._jobs):
            self._abandon(identity)
        if self._tables is not None:
            self._tables.close()
            self._tables = None

    def compile(self, identity: str, document: Mapping[str, object], world: World) -> Compilation:
        """identity: the policy's uid, or what stands for it."""
        last, job = self._done.get(identity), self._jobs.get(identity)
        if last is not None and job is None and last.input.is_just(document):
            return last.result  # of a thousand policies nearly all, each time
        compared = document
        if "status" in document:
            compared = {key: value for key, value in document.items() if key != "status"}
        inputs = ([last.input] if last is not None else []) + ([job.input] if job is not None else [])
        known = next((each for each in inputs if each.document == compared), None)
        if known is not None and known.policy is None and last is not None:
            self._abandon(identity)  # a change that was taken back
            return last.result
        if known is None or known.policy is None:
            try:
                policy = parse_policy(document, strict=self._strict)
            except PolicyInvalid as invalid:
                result = Compilation(
                    Reason("Invalid", summary(invalid.errors)), UNKNOWN, None, invalid.errors
                )
                return self._settle(identity, _Input(compared, None, {}, {}, document), result)
        else:
            policy = known.policy
        namespace = policy.metadata.namespace
        lists = {key: world.list_content(namespace, key) for key in config_map_references(policy)}
        secrets = {key: world.secret_content(namespace, key) for key in secret_references(policy)}
        # The same document is the same object: it need not be compared again.
        wanted = _Input(compared if known is None else known.document, policy, lists, secrets, document)
        if last is not None and last.input == wanted:
            self._abandon(identity)
            return last.result
        if job is not None and job.input == wanted:
            return job.meanwhile
        if self._tables is None:
            return self._settle(identity, wanted, _compiled(identity, wanted, digest_of, compile_list))
        if self._tables.at_hand(policy, lists):
            return self._settle(identity, wanted, self._compiled_by(self._tables, identity, wanted))
        self._abandon(identity)
        meanwhile = Compilation(VALID, COMPILING, None if last is None else last.result.managed, (), True)
        task = asyncio.create_task(self._compile(self._tables, identity, wanted))
        self._jobs[identity] = _Job(wanted, meanwhile, task)
        return meanwhile

    def keep_only(self, identities: Iterable[str]) -> None:
        """Forget the policies that are gone."""
        kept = set(identities)
        for identity in self._jobs.keys() - kept:
            self._abandon(identity)
        self._done = {identity: done for identity, done in self._done.items() if identity in kept}
        if self._tables is not None and not self._tables.empty:
            inputs = [done.input for done in self._done.values()] + [job.input for job in self._jobs.values()]
            self._tables.keep_only((each.policy, each.lists) for each in inputs if each.policy is not None)

    async def _compile(self, tables: ListTables, identity: str, wanted: _Input) -> None:
        """The job of a policy with large lists."""
        assert wanted.policy is not None
        began = time.time()
        try:
            await tables.prepare(wanted.policy, wanted.lists)
            result = replace(self._compiled_by(tables, identity, wanted), took=(began, time.time()))
        except Exception as fault:
            known = isinstance(fault, ProcessLost)
            _log.error("the lists of %s do not compile: %s", identity, fault, exc_info=not known)
            reason = str(fault) if known else "a fault in the operator, see its log"
            error = FieldError("spec.access.rules", f"its lists can't be compiled now: {reason}")
            result = Compilation(VALID, Reason("BadList", str(error)), None, (error,))
            asyncio.get_running_loop().call_later(RETRY_DELAY, self._try_again, identity, wanted)
        del self._jobs[identity]
        self._settle(identity, wanted, result)
        self._changed()

    def _compiled_by(self, tables: ListTables, identity: str, wanted: _Input) -> Compilation:
        return _compiled(identity, wanted, tables.digest, tables.compile_text)

    def _try_again(self, identity: str, wanted: _Input) -> None:
        last = self._done.get(identity)
        if self._tables is not None and last is not None and last.input is wanted:
            del self._done[identity]
            self._changed()

    def _settle(self, identity: str, wanted: _Input, result: Compilation) -> Compilation:
        self._abandon(identity)
        if not wanted.lists and not wanted.secrets:
            wanted = replace(wanted, policy=None)
        self._done[identity] = _Done(wanted, result)
        return result

    def _abandon(self, identity: str) -> None:
        if (job := self._jobs.pop(identity, None)) is not None:
            job.task.cancel()


def _compiled(
    identity: str,
    wanted: _Input,
    digest: Callable[[bytes], str],
    compile_text: Callable[[ListText], CompiledList],
) -> Compilation:
    policy = wanted.policy
    assert policy is not None
    began = time.time()
    try:
        compiled = compile_policy(
            policy, wanted.lists, wanted.secrets, digest=digest, compile_text=compile_text
        )
        made = _managed(identity, policy, compiled)
        return Compilation(VALID, RESOLVED, made, took=(began, time.time()))
    except CompileFailed as failed:
        problem = Reason(failed.reason, summary(failed.errors))
        return Compilation(VALID, problem, None, failed.errors, took=(began, time.time()))


def _managed(identity: str, policy: ScreeningPolicy, compiled: Compiled) -> Managed:
    """Raises CompileFailed for what can't be sent."""
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
    size = sum(len(blob.data) for blob in compiled.blobs.values())
    if size > LARGEST_BLOBS:
        problem = f"the lists have {size >> 20} MiB as tables, and a sidecar takes {LARGEST_BLOBS >> 20}; take networks out"
        raise CompileFailed("BadList", (FieldError("spec.access.rules", problem),))
    made = managed(snapshot, ((blob.hash, blob.format, blob.data) for blob in compiled.blobs.values()))
    if (size := made.snapshot.ByteSize()) > LARGEST_SNAPSHOT:
        problem = (
            f"the rules name {len(compiled.blobs)} tables and have {size} bytes by that, more than the {LARGEST_SNAPSHOT} "
            "that a sidecar is sent at once; take lists or networks out"
        )
        raise CompileFailed("BadList", (FieldError("spec.access.rules", problem),))
    return made


def summary(errors: tuple[FieldError, ...]) -> str:
    """The first few errors, and how many more there are."""
    text = "; ".join(map(str, errors[:SHOWN_ERRORS]))
    return f"{text}; and {len(errors) - SHOWN_ERRORS} more" if len(errors) > SHOWN_ERRORS else text
