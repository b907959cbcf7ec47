"""What the supervisor does for block lists: resolvers and probes for the workers, their zones' health for the operator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from postwarden_sidecar.controlclient.client import ControlClient
from postwarden_sidecar.net.addresses import host_port
from postwarden_sidecar.rules.settings import Rules
from postwarden_sidecar.supervisor.dnsbl_probes import DnsblProbes
from postwarden_sidecar.supervisor.resolvers import ResolverTable
from postwarden_sidecar.supervisor.workers import Workers


class DnsblHealth:
    """`begin` before workers start, `run` as a task, `close` before they stop."""

    def __init__(
        self, workers: Workers, resolver: tuple[str, int] | None, client: Callable[[], ControlClient | None]
    ) -> None:
        """resolver: of the command line, above the policy's; None: none. client: the operator's, if there is one."""
        self._flag = () if resolver is None else (host_port(*resolver),)
        self._client = client
        self._resolvers = ResolverTable(workers.set_resolvers)
        self._probes = DnsblProbes(
            resolvers=self._resolvers.in_force, announce=workers.tell_probed, report=self._report
        )
        self.wanted = self._probes.wanted
        self.begin = self._resolvers.begin
        self.close = self._probes.close

    @property
    def usable(self) -> Mapping[str, bool]:
        """Whether a list's hits count, by template; of those that were looked at. Any thread may ask."""
        return self._probes.usable

    def set_rules(self, rules: Rules | None) -> None:
        """They are in force in every worker."""
        settings = None if rules is None else rules.dnsbl
        self._resolvers.want(self._flag or (() if settings is None else settings.resolvers))
        self._probes.set_rules(settings)
        client = self._client()
        if client is not None:
            client.reports.keep_only(
                set() if settings is None else {site.template for site in settings.sites}
            )

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._resolvers.run())
            group.create_task(self._probes.run())

    def _report(self, template: str, state: str, detail: str) -> None:
        client = self._client()
        if client is not None:
            client.reports.tell_zone(template, state, detail)
