"""`kubectl postwarden tail`: verdicts of a cluster's sidecars as they come.

Contract: pods that come are joined, pods that go are let go. Ends by Ctrl-C (130); 2: it can't be asked.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import click
from postwarden_operator.kube.api import ClusterApi, NoCluster

from postwarden_cli.admin_client import Opener, Query, Refused, Unanswered
from postwarden_cli.exit_codes import INTERRUPTED, UNANSWERED
from postwarden_cli.pod_options import nobody, selection_of, which_pods
from postwarden_cli.sidecar_pods import Selection, SidecarPod, find, way_to
from postwarden_cli.tail_followers import Followers
from postwarden_cli.tail_options import Screen, ended_by_the_reader, filters, query_of

LOOK = 2.0  # seconds between two looks at which pods there are

ENDS_WITHIN = 2.0
"""Seconds from Ctrl-C to the end. A stream to a pod that has just gone may take longer to close (seen now and then, with kubelet), and
there is nothing to lose."""

EXAMPLES = """\b
Examples:
  Everything that the sidecars of this namespace decide:
    kubectl postwarden tail
  Whom policy `mail` turns away in namespace mail-system, and why:
    kubectl postwarden tail -n mail-system --policy mail --verdict rejected,dropped
  One pod, one network, as JSON:
    kubectl postwarden tail postfix-0 --address 203.0.113.0/24 --json | jq .
  Needs the verbs get and list on pods, and get and create on pods/portforward.
"""


@click.command(epilog=EXAMPLES)
@click.argument("pods", nargs=-1, metavar="[POD]…")
@which_pods
@filters
def command(
    pods: tuple[str, ...],
    namespace: str | None,
    selector: str,
    policy: str,
    port: int,
    verdict: tuple[str, ...],
    address: tuple[str, ...],
    test: tuple[str, ...],
    as_json: bool,
) -> None:
    """Watch verdicts as they come, with the reason for each: lines on a terminal, JSON lines when piped.

    Of the pods that are named, or all with a sidecar; pods that come are joined. Nothing is kept anywhere: what was before is in the pods'
    logs and in traces.
    """
    selection = selection_of(pods, namespace, selector, policy)
    query = query_of(verdict=verdict, address=address, test=test)
    screen = Screen(as_json=as_json, pods=len(selection.names) != 1)
    try:
        asyncio.run(_run(selection, port, query, screen))
    except asyncio.CancelledError:  # by Ctrl-C
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        ended_by_the_reader()
    except (NoCluster, Unanswered, Refused) as problem:
        click.echo(f"kubectl postwarden: {problem}", err=True)
        sys.exit(UNANSWERED)


async def _run(selection: Selection, port: int, query: Query, screen: Screen) -> None:
    _end_when_interrupted()
    api = await ClusterApi.connect()
    try:
        found = Found(api, selection, port, screen)
        await found.look()  # what can't be asked at all ends it at once

        def show(pod: str, line: Mapping[str, Any]) -> None:
            source = {"k8s.namespace.name": selection.namespace, "k8s.pod.name": pod}
            screen.show(pod, source, line)

        def complain(pod: str, sentence: str) -> None:
            screen.note(f"{pod}: {sentence or 'following'}", problem=bool(sentence))

        await Followers(query, show, complain).run(found.targets())
    finally:
        await api.close()


def _end_when_interrupted() -> None:
    """What is open is closed, for a while."""
    loop, running = asyncio.get_running_loop(), asyncio.current_task()
    assert running is not None

    def interrupted() -> None:
        running.cancel()
        loop.call_later(ENDS_WITHIN, os._exit, INTERRUPTED)

    loop.add_signal_handler(signal.SIGINT, interrupted)


class Found:
    """The pods that the selection means, as they are now."""

    def __init__(self, api: ClusterApi, selection: Selection, port: int, screen: Screen) -> None:
        self._api = api
        self._selection = selection
        self._port = port
        self._screen = screen
        self._pods: dict[str, SidecarPod] = {}

    async def look(self) -> None:
        """Raises Refused, Unanswered."""
        pods = await find(self._api, self._selection)
        if self._selection.names and all(not pod.has_sidecar for pod in pods):
            raise Refused("; ".join(pod.trouble for pod in pods))
        self._pods = {pod.name: pod for pod in pods}

    async def targets(self) -> AsyncIterator[Mapping[str, Opener]]:
        """For ever."""
        if not self._pods:
            self._screen.note(f"{nobody(self._selection)}; waiting for one")
        said = ""
        while True:
            yield {name: self._way(name) for name in self._pods}
            await asyncio.sleep(LOOK)
            try:
                await self.look()
                said = ""
            except (Unanswered, Refused) as problem:  # what is followed goes on
                if str(problem) != said:
                    said = str(problem)
                    self._screen.note(said)

    def _way(self, name: str) -> Opener:
        def opened() -> AbstractAsyncContextManager[aiohttp.ClientSession]:
            return way_to(self._api, self._pods[name], self._port)()

        return opened
