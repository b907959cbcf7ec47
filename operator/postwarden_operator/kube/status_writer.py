"""Writes each policy's status when it changed, and not too often.

Contract: level-triggered, like the reconcile: `publish` says what became of the policies, `mark_dirty` that a
sidecar's state changed; what is written is the state at that moment. A write that fails is tried again.
Written by merge patch with the object's uid, so that the status of a policy that was deleted and made anew is
never that of the old one.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from postwarden_operator.kube.api import MERGE_PATCH, ApiRefused, ApiUnavailable, ClusterApi
from postwarden_operator.reconcile.plan import Outcome, Plan
from postwarden_operator.reconcile.status import StateOf, status_of

QUIET = 0.1
"""Seconds that changes are gathered.

The sidecars of a policy acknowledge within milliseconds of each other.
"""

INTERVAL = 2.0
"""Seconds between two writes of one policy: 10,000 sidecars that come and go must not load the API server."""

_log = logging.getLogger(__name__)

POLICIES = "/apis/postwarden.dev/v1alpha1/namespaces/{namespace}/screeningpolicies/{name}/status"


class StatusWriter:
    """state_of: a sidecar's by pod uid. current: the status in the object by policy uid; None: it is gone."""

    def __init__(
        self,
        api: ClusterApi,
        state_of: StateOf,
        current: Callable[[str], Mapping[str, Any] | None],
        *,
        quiet: float = QUIET,
        interval: float = INTERVAL,
    ) -> None:
        self._quiet, self._interval = quiet, interval
        self._api = api
        self._state_of = state_of
        self._current = current
        self._outcomes: tuple[Outcome, ...] = ()
        self._written: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._dirty = asyncio.Event()

    def publish(self, plan: Plan) -> None:
        """What became of all policies."""
        self._outcomes = plan.outcomes
        self._dirty.set()

    def state_changed(self, pod_uid: str) -> None:
        """The StatusSink: which pod it is does not matter, the counts are made anew."""
        self._dirty.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(self._quiet)
            self._dirty.clear()
            if (again := await self._write_all()) is not None:
                asyncio.get_running_loop().call_later(again, self._dirty.set)

    async def _write_all(self) -> float | None:
        """In how many seconds there is more to write; None: nothing is left."""
        now = asyncio.get_running_loop().time()
        waits: list[float] = []
        live = {outcome.uid for outcome in self._outcomes}
        self._written = {uid: each for uid, each in self._written.items() if uid in live}
        for outcome in self._outcomes:
            in_object = self._current(outcome.uid)
            if in_object is None:
                continue
            last, written = self._written.get(outcome.uid, (-self._interval, None))
            # The watch tells of our own write a little later; until then the object's status is what we
            # wrote.
            previous = written if written is not None and now - last < self._interval else in_object
            status = status_of(outcome, self._state_of, previous, datetime.now(UTC))
            if status == previous:
                continue
            if now - last < self._interval:
                waits.append(last + self._interval - now)
            elif await self._write(outcome, status):
                self._written[outcome.uid] = (now, status)
            else:
                waits.append(self._interval)
        return min(waits, default=None)

    async def _write(self, outcome: Outcome, status: Mapping[str, Any]) -> bool:
        path = POLICIES.format(namespace=outcome.namespace, name=outcome.name)
        patch = {"metadata": {"uid": outcome.uid}, "status": status}
        try:
            await self._api.request("PATCH", path, patch, content_type=MERGE_PATCH)
        except ApiRefused as error:
            # 404, 409: deleted, or made anew; the watch tells.
            if error.status not in (404, 409):
                _log.error("the status of %s/%s can't be written: %s", outcome.namespace, outcome.name, error)
            return False
        except ApiUnavailable as error:
            _log.warning("the status of %s/%s waits: %s", outcome.namespace, outcome.name, error)
            return False
        return True
