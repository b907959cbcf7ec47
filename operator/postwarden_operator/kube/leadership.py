"""Keeps or awaits the Lease by which one replica of the operator writes status.

Contract: `run` until cancelled, then `release`. `leading` is to be asked just before each act of a leader. What the API server refuses
is logged once, in its own words; a replica without the right to the Lease never leads.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi
from postwarden_operator.kube.lease import Election, Lease, Need, Timing

_log = logging.getLogger(__name__)


class Leadership:
    """namespace, name: of the Lease. identity: of this process, never used again. changed: called when it begins and ends to lead."""

    def __init__(
        self,
        api: ClusterApi,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing,
        changed: Callable[[bool], None],
    ) -> None:
        self._api = api
        self._namespace, self._name = namespace, name
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._identity = identity
        self._timing = timing
        self._election = Election(identity, timing)
        self._changed = changed
        self._told = False
        self._acquired = ""
        self._problem = ""

    @property
    def leading(self) -> bool:
        return self._election.leading(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        _log.info("%s may lead by the Lease %s/%s", self._identity, self._namespace, self._name)
        while True:
            began = loop.time()
            try:
                # Beyond that an answer would come too late for the next renewal.
                async with asyncio.timeout(self._timing.renew_deadline / 2):
                    await self._step()
                self._problem = ""
            except (ApiUnavailable, ApiRefused, TimeoutError) as error:
                self._election.failed()
                # A write that another one came before is in the nature of an election.
                if getattr(error, "status", None) != 409:
                    self._complain(str(error) or "no answer")
            self._tell()
            await asyncio.sleep(max(0.0, began + self._timing.retry - loop.time()))
            self._tell()

    async def release(self) -> None:
        """Give the Lease away, as far as the API server can be asked now."""
        lease = self._election.release()
        self._tell()
        if lease is not None:
            try:
                async with asyncio.timeout(self._timing.retry):
                    await self._write(lease)
            except (ApiUnavailable, ApiRefused, TimeoutError) as error:
                _log.warning(
                    "the Lease %s/%s stays until it runs out: %s", self._namespace, self._name, error
                )

    async def _step(self) -> None:
        loop = asyncio.get_running_loop()
        step = self._election.next(loop.time())
        if step is Need.READ:
            lease = await self._read()
            self._election.found(lease, loop.time())
            step = self._election.next(loop.time())
        if isinstance(step, Lease):
            sent_at = loop.time()
            self._election.written(await self._write(step), sent_at)

    async def _read(self) -> Lease | None:
        try:
            return _lease_of(await self._api.request("GET", f"{self._path}/{self._name}"))
        except ApiRefused as error:
            if error.status == 404:
                return None
            raise

    async def _write(self, lease: Lease) -> Lease:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if self._election.holder != self._identity:
            self._acquired = now
        body: dict[str, Any] = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": lease.holder,
                "leaseDurationSeconds": max(1, round(lease.duration)),
                "acquireTime": self._acquired,
                "renewTime": now,
                "leaseTransitions": lease.transitions,
            },
        }
        if lease.version == "":
            return _lease_of(await self._api.request("POST", self._path, body))
        body["metadata"]["resourceVersion"] = lease.version
        return _lease_of(await self._api.request("PUT", f"{self._path}/{self._name}", body))

    def _tell(self) -> None:
        leading = self.leading
        if leading != self._told:
            self._told = leading
            _log.info("%s %s the status writer", self._identity, "is now" if leading else "is no longer")
            self._changed(leading)

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            _log.error(
                "the Lease %s/%s, by which replicas agree on who writes status: %s",
                self._namespace,
                self._name,
                problem,
            )


def _lease_of(body: dict[str, Any]) -> Lease:
    spec = body.get("spec") or {}
    return Lease(
        holder=spec.get("holderIdentity") or "",
        duration=float(spec.get("leaseDurationSeconds") or 0),
        transitions=int(spec.get("leaseTransitions") or 0),
        version=str(body["metadata"].get("resourceVersion", "")),
    )
