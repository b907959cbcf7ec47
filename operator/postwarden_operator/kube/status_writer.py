"""Writes each policy's status when it changed, and not too often.

Contract: level-triggered, like the reconcile: `publish` says what became of the policies, `mark_dirty` that sidecars' states changed and
`changes` whose; what is written is the state at that moment. Looked at are the policies that this is about, for of a thousand one
changes, and a look at all takes 0.6 s of CPU; once a minute those whose object changed; all of them when a replica takes over. Only
while `may_write`: one of several replicas. A write names the object's uid and the version that it is based on, so that the status of a
policy that was deleted and made anew is never that of the old one, and a replica that does not know yet that it leads no more
overwrites nobody. One that fails is tried again, each time later.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from postwarden_operator.controlplane.peer_state import PeerState
from postwarden_operator.kube.api import MERGE_PATCH, ApiRefused, ApiUnavailable, ClusterApi
from postwarden_operator.kube.objects import CurrentStatus
from postwarden_operator.reconcile.interception import Interception
from postwarden_operator.reconcile.judge import judged
from postwarden_operator.reconcile.plan import Outcome, Plan
from postwarden_operator.reconcile.status import status_of

QUIET = 0.1
"""Seconds that changes are gathered.

The sidecars of a policy acknowledge within milliseconds of each other.
"""

INTERVAL = 2.0
"""Seconds between two writes of one policy: 10,000 sidecars that come and go must not load the API server."""

LONGEST_WAIT = 60.0
"""Seconds until a write that failed again and again is tried anew."""

CONFLICT_WAIT = 0.2
"""Seconds until a write is tried anew that came second, at first: the watch tells of the other one within milliseconds."""

LOOK_AGAIN = 60.0
"""Seconds between two looks for what somebody else wrote over a status: it does not stay."""

_log = logging.getLogger(__name__)

POLICIES = "/apis/postwarden.dev/v1alpha1/namespaces/{namespace}/screeningpolicies/{name}/status"


Changes = Callable[[], tuple[Iterable[str], float | None]]
"""The pods whose sidecar's state may be another than at the last call; and when one changes by itself next, by the loop's clock."""

Current = Callable[[str], CurrentStatus | None]
"""By policy uid; None: the policy is gone."""

Intercepted = Callable[[Outcome], Interception | None]
"""None: not known yet."""


@dataclass(frozen=True, slots=True)
class _Written:
    at: float
    status: Mapping[str, Any]
    version: int


@dataclass(frozen=True, slots=True)
class _Failed:
    until: float
    wait: float
    version: int


class StatusWriter:
    """state_of: a sidecar's by pod uid. intercepted: what is known of a policy's Services."""

    def __init__(
        self,
        api: ClusterApi,
        state_of: Callable[[str], PeerState | None],
        current: Current,
        changes: Changes,
        *,
        may_write: Callable[[], bool] = lambda: True,
        intercepted: Intercepted = lambda outcome: None,
        quiet: float = QUIET,
        interval: float = INTERVAL,
    ) -> None:
        self._quiet, self._interval = quiet, interval
        self._api = api
        self._state_of = state_of
        self._current = current
        self._may_write = may_write
        self._intercepted = intercepted
        self._changes = changes
        self._outcomes: dict[str, Outcome] = {}
        """By policy uid."""
        self._policy_of: dict[str, str] = {}
        """By pod uid: who counts it."""
        self._touched: set[str] = set()
        self._due: dict[str, float] = {}
        """When a policy is to be looked at though nothing happens, by the loop's clock."""
        self._look_at_all: float | None = 0.0
        """When, by the loop's clock; None: there is no reason to."""
        self._look_again = 0.0
        self._looked: dict[str, int] = {}
        """By policy uid: the version of the object in which there was nothing to change."""
        self._written: dict[str, _Written] = {}
        self._failed: dict[str, _Failed] = {}
        self._settled_at = 0.0
        self._dirty = asyncio.Event()

    def publish(self, plan: Plan) -> None:
        """What became of all policies."""
        before, self._outcomes = self._outcomes, {outcome.uid: outcome for outcome in plan.outcomes}
        for uid, outcome in before.items():
            if self._outcomes.get(uid) is not outcome:
                for pod_uid in outcome.screened:
                    self._policy_of.pop(pod_uid, None)
        for uid, outcome in self._outcomes.items():
            if before.get(uid) is not outcome:
                self._policy_of.update(dict.fromkeys(outcome.screened, uid))
                self._touched.add(uid)
        for of_policies in (self._written, self._failed, self._due, self._looked):
            for uid in of_policies.keys() - self._outcomes.keys():
                del of_policies[uid]
        if self._touched:
            self._dirty.set()

    def mark_dirty(self) -> None:
        """States of sidecars changed."""
        self._dirty.set()

    def look_at_all(self) -> None:
        """Something changed that may be about any policy."""
        self._look_at_all = 0.0
        self._dirty.set()

    def take_over(self, settle: float) -> None:
        """This replica leads from now on. settle: seconds in which a sidecar of which it has not heard is not called disconnected."""
        self._written.clear()
        self._failed.clear()
        self._looked.clear()
        self._settled_at = asyncio.get_running_loop().time() + settle
        self._look_at_all = 0.0
        self._dirty.set()

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        again: float | None = None
        while True:
            wait = LOOK_AGAIN if again is None else min(LOOK_AGAIN, max(0.0, again - loop.time()))
            try:
                async with asyncio.timeout(wait):
                    await self._dirty.wait()
                await asyncio.sleep(self._quiet)
            except TimeoutError:
                pass  # something is due by itself
            self._dirty.clear()
            again = await self._write_all()

    async def _write_all(self) -> float | None:
        """When there is more to write, by the loop's clock; None: nothing is left."""
        touched, self._touched = self._touched, set()
        pods, next_change = self._changes()
        touched.update(self._policy_of[pod_uid] for pod_uid in pods if pod_uid in self._policy_of)
        if not self._may_write():
            return None
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._look_at_all is not None and now >= self._look_at_all:
            # A replica that took over is to say that sidecars are disconnected of which it has not heard by then.
            self._look_at_all = self._settled_at if self._settled_at > now else None
            touched.update(self._outcomes)
        if now >= self._look_again:
            self._look_again = now + LOOK_AGAIN
            touched.update(uid for uid, version in self._looked.items() if self._version(uid) != version)
        touched |= {uid for uid, due in self._due.items() if due <= now}
        for uid in touched:
            self._due.pop(uid, None)
            outcome = self._outcomes.get(uid)
            if outcome is None:
                continue
            if (due := await self._write_if_changed(outcome, loop.time())) is not None:
                self._due[uid] = due
            await asyncio.sleep(
                0
            )  # a look takes a millisecond, and there may be a thousand: sidecars do not wait for all
        reasons = (self._look_again, self._look_at_all, next_change, *self._due.values())
        return min(each for each in reasons if each is not None)

    def _version(self, uid: str) -> int | None:
        """Of the policy's object, as the watch tells of it."""
        in_object = self._current(uid)
        return None if in_object is None else in_object.version

    async def _write_if_changed(self, outcome: Outcome, now: float) -> float | None:
        """When to look at it again; None: there is no reason to."""
        in_object = self._current(outcome.uid)
        if in_object is None:
            return None
        written = self._written.get(outcome.uid)
        # The watch tells of our own write a little later; until then the object's status is what we wrote.
        if written is not None and written.version > in_object.version:
            in_object = CurrentStatus(written.status, written.version)
        status = status_of(
            outcome,
            lambda uid: judged(outcome, self._state_of(uid)),
            in_object.status,
            datetime.now(UTC),
            settled=now >= self._settled_at,
            intercepted=self._intercepted(outcome),
        )
        if status == in_object.status:
            self._looked[outcome.uid] = in_object.version
            return None
        if written is not None and now < written.at + self._interval:
            return written.at + self._interval
        failed = self._failed.get(outcome.uid)
        if failed is not None and now < failed.until and failed.version == in_object.version:
            return failed.until
        if not self._may_write():
            return None
        answer = await self._write(outcome, status, in_object.version)
        if isinstance(answer, int):
            self._written[outcome.uid] = _Written(now, status, answer)
            self._failed.pop(outcome.uid, None)
            self._looked[outcome.uid] = answer
            return None
        least = CONFLICT_WAIT if answer.status == 409 else self._interval
        wait = least if failed is None else min(LONGEST_WAIT, max(least, 2 * failed.wait))
        self._failed[outcome.uid] = _Failed(now + wait, wait, in_object.version)
        return now + wait

    async def _write(self, outcome: Outcome, status: Mapping[str, Any], version: int) -> "int | _Refused":
        """The object's new version."""
        path = POLICIES.format(namespace=outcome.namespace, name=outcome.name)
        patch = {"metadata": {"uid": outcome.uid, "resourceVersion": str(version)}, "status": status}
        try:
            stored = await self._api.request("PATCH", path, patch, content_type=MERGE_PATCH)
        except ApiRefused as error:
            # 404, 409: deleted, made anew, or changed by another; the watch tells.
            if error.status not in (404, 409):
                _log.error("the status of %s/%s can't be written: %s", outcome.namespace, outcome.name, error)
            return _Refused(error.status)
        except ApiUnavailable as error:
            _log.warning("the status of %s/%s waits: %s", outcome.namespace, outcome.name, error)
            return _Refused(None)
        return int(stored["metadata"]["resourceVersion"])


@dataclass(frozen=True, slots=True)
class _Refused:
    """status: HTTP's; None: there was no answer."""

    status: int | None
