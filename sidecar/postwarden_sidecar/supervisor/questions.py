"""What a sidecar knows of itself, as the admin endpoint tells it: the rules in force, in which workers, and what they do to an address."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from postwarden_sidecar.checks import dnsbl, explanation, prefix
from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.rules.description import describe
from postwarden_sidecar.rules.settings import Rules
from postwarden_sidecar.stores.store import PassStore, StoreError
from postwarden_sidecar.supervisor.applied_rules import AppliedRules
from postwarden_sidecar.supervisor.settings import SidecarSettings, WithoutRules
from postwarden_sidecar.supervisor.tail import BadQuery
from postwarden_sidecar.supervisor.upstreams import Upstreams
from postwarden_sidecar.supervisor.workers import Workers


class Questions:
    """Answers for programs: plain data."""

    def __init__(
        self,
        settings: SidecarSettings,
        rules: AppliedRules,
        workers: Workers,
        upstreams: Upstreams,
        store: PassStore,
        connected: Callable[[], bool],
    ) -> None:
        """connected: a stream to the operator stands."""
        self._settings = settings
        self._rules = rules
        self._workers = workers
        self._upstreams = upstreams
        self._store = store
        self._connected = connected

    async def rules(self) -> dict[str, Any]:
        """What is in force. complete: with the keys of Secrets, which the disk does not have. A worker whose `inForce` is false is told
        of these rules and has not applied them yet."""
        rules, upstream, proof = self._rules.rules, self._upstreams.in_force, self._upstreams.result
        return {
            **self._who(rules),
            "complete": self._rules.complete,
            "operator": "connected" if self._connected() else "away",
            "workers": [
                {"index": each.index, "pid": each.pid, "ready": each.ready, "inForce": each.in_force}
                for each in self._workers.states
            ],
            "upstream": None if upstream is None else asdict(upstream),
            "handoff": None if proof is None else {"state": proof.state, "detail": proof.detail},
            "rules": None if rules is None else await asyncio.to_thread(describe, rules),
        }

    async def explain(self, address: str) -> dict[str, Any]:
        """What becomes of a client from there now. passes: test -> when it ends. Raises BadQuery."""
        try:
            facts = Facts(address)
        except ValueError:
            raise BadQuery(
                f"address: {address!r} is not an IP address, as in 192.0.2.1 or 2001:db8::1"
            ) from None
        rules = self._rules.rules
        answer = {"address": facts.address, **self._who(rules)}
        if rules is None:
            said = (
                "told to come back (421)"
                if self._settings.without_rules is WithoutRules.DEFER
                else "handed to the MTA"
            )
            return {**answer, "passes": {}, "steps": [f"no policy is in force: every client is {said}"]}
        if facts.address == self._workers.suspect:
            steps = explanation.explain(rules, facts)
            steps.append(
                "its address stands for many clients: no pass is kept for it, no limit per client holds"
            )
            return {**answer, "passes": {}, "steps": steps}
        held = await self._passes(rules, facts)
        return {
            **answer,
            "passes": {test: explanation.moment(end) for test, end in sorted(held.items()) if end > 1},
            "steps": explanation.explain(rules, facts, held, time.time()),
        }

    def _who(self, rules: Rules | None) -> dict[str, Any]:
        pod = {
            key: os.environ[variable]
            for key, variable in (("namespace", "POD_NAMESPACE"), ("pod", "POD_NAME"))
            if variable in os.environ
        }
        policy = None if rules is None else asdict(rules.policy)
        return {"sidecar": {"version": version("postwarden"), **pod}, "policy": policy}

    async def _passes(self, rules: Rules, facts: Facts) -> dict[str, float]:
        """As the engine asks for them: by the client's prefix, and for DNS lists by its exact address."""
        key = prefix.key(facts.address, facts.packed, rules.cache.prefix_ipv4, rules.cache.prefix_ipv6)
        try:
            held = await self._store.get(key)
            if key != facts.address:
                exact = await self._store.get(facts.address)
                held.pop(dnsbl.TEST, None)
                held |= {test: end for test, end in exact.items() if test == dnsbl.TEST}
        except StoreError:
            return {}  # as for clients: what can't be read is not known
        return held
