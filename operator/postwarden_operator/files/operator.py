"""The operator on files: `postwarden up` runs it beside one sidecar.

Contract: `load` reads and compiles, and raises NothingUsable for a bad first policy; `start` serves the
stream on a unix socket in a folder that only this user may open, with a token made for this run; an edit is
pushed live, and a bad edit changes nothing and is reported once. `report` is called from the event loop. telemetry: where traces of
edits and the operator's metrics go; None: nowhere.
"""

import asyncio
import hmac
import logging
import secrets
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from postwarden_operator.controlplane.identity import AuthenticationFailed, Identity, Refusal
from postwarden_operator.controlplane.registry import Registry
from postwarden_operator.controlplane.server import ScreeningServer
from postwarden_operator.files.events import (
    Applied,
    Conflicted,
    FilesEvent,
    NothingUsable,
    Problem,
    Selected,
    Served,
)
from postwarden_operator.files.folder import Folder, Objects, Signature, Unreadable, signature
from postwarden_operator.files.selection import first_by_name
from postwarden_operator.reconcile.compilation import Compiler
from postwarden_operator.reconcile.loop import Debounce, Reconciler
from postwarden_operator.reconcile.observer import NOBODY
from postwarden_operator.reconcile.plan import Outcome, Plan, plan
from postwarden_operator.reconcile.world import Pod, World
from postwarden_operator.telemetry.service import Telemetry, TelemetrySettings

__all__ = [
    "Applied",
    "Conflicted",
    "FilesEvent",
    "FilesOperator",
    "NothingUsable",
    "Problem",
    "Selected",
    "Served",
]

POLL_INTERVAL = 0.2
"""Seconds between two looks at the files. An edit counts when two looks agree, so that a file which an editor
writes in two steps, or removes and makes anew, is not seen half done."""

POD = Pod(uid="this-machine", namespace="default", name="this-machine", labels={}, screened=True)
"""The one sidecar."""

_log = logging.getLogger(__name__)


class FilesOperator:
    """load (or start, which loads), start, stop; within one event loop."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        report: Callable[[FilesEvent], None],
        telemetry: TelemetrySettings | None = None,
        poll_interval: float = POLL_INTERVAL,
    ) -> None:
        self._paths = tuple(paths)
        self._poll_interval = poll_interval
        self._report = report
        self._token = secrets.token_urlsafe(32)
        self._files = Folder(paths, secrets.token_bytes(32))
        self._registry = Registry(self)
        self._telemetry = None if telemetry is None else Telemetry(telemetry)
        self._compiler = Compiler(strict=True)
        self._reconciler = Reconciler(
            self._read_world,
            self._registry,
            self._planned,
            select=first_by_name,
            debounce=Debounce(0, 0),
            compiler=self._compiler,
            observer=NOBODY if self._telemetry is None else self._telemetry.changes,
        )
        self._objects: Objects | None = None
        self._seen: Signature = ()
        self._selected: Selected | None = None
        self._applied: Applied | None = None
        self._refused: Problem | None = None
        self._told: set[FilesEvent] = set()
        self._edit_problems: list[Problem] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._server: ScreeningServer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def load(self) -> Selected:
        """Read the files; the policy that will be in force. Raises NothingUsable."""
        self._seen = signature(self._paths)
        try:
            self._objects = self._files.read()
        except Unreadable as error:
            raise NothingUsable(error.errors) from error
        result = plan(self._objects.world(POD), self._compiler, first_by_name)
        selected = _selected(result)
        if selected is None:
            raise NothingUsable(self._located(next(each for each in result.outcomes if each.screened)))
        return selected

    async def start(self) -> Served:
        """Serve, and follow the files. Raises NothingUsable, OSError."""
        if self._objects is None:
            self.load()
        self._folder = tempfile.TemporaryDirectory(prefix="postwarden-")  # mode 0700
        socket = Path(self._folder.name) / "control.sock"
        if self._telemetry is None:
            self._server = ScreeningServer(self._registry, self)
        else:
            self._server = ScreeningServer(self._registry, self, self._telemetry.changes)
        self._server.listen_unix(socket)
        await self._reconciler.reconcile()
        await self._server.start()
        self._tasks = [asyncio.create_task(self._reconciler.run()), asyncio.create_task(self._follow())]
        return Served(f"unix:{socket}", self._token)

    async def stop(self) -> None:
        """May be called at any time, also twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._server is not None:
            await self._server.stop()
            self._server = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        if self._telemetry is not None:
            telemetry, self._telemetry = self._telemetry, None
            await telemetry.stop()

    async def authenticate(self, token: str) -> Identity:
        """The Authenticator: one token, one sidecar."""
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            raise AuthenticationFailed(Refusal.UNAUTHENTICATED, "not the token of this run")
        return Identity(POD.uid, POD.namespace, POD.name)

    def state_changed(self, pod_uid: str) -> None:
        """The StatusSink: tells what the sidecar has acknowledged or refused.

        A hand-off that is not proved is the sidecar's own to tell.
        """
        subscription, selected = self._registry.subscription(pod_uid), self._selected
        if subscription is None or selected is None:
            return
        if (refusal := subscription.refusal) is not None:
            problem = Problem(
                f"the sidecar refuses {selected.namespace}/{selected.name}, version {selected.version}: {refusal}"
            )
            if problem != self._refused:
                self._report(problem)
            self._refused = problem
        if subscription.version_in_force == selected.version:
            applied = Applied(selected.namespace, selected.name, selected.version)
            if applied != self._applied:
                self._report(applied)
            self._applied = applied

    async def _read_world(self) -> World | None:
        return None if self._objects is None else self._objects.world(POD)

    def _planned(self, result: Plan) -> None:
        events: list[FilesEvent] = list(self._edit_problems)
        winner = next(outcome for outcome in result.outcomes if outcome.screened)
        for outcome in result.outcomes:
            if outcome.compilation.managed is None:
                events += [Problem(text) for text in self._located(outcome)]
            if outcome is not winner:
                events.append(
                    Conflicted(outcome.namespace, outcome.name, f"{winner.namespace}/{winner.name}")
                )
        selected = _selected(result)
        if selected is not None and selected != self._selected:
            self._selected = selected
            self._report(selected)
        for event in events:
            if event not in self._told:
                self._report(event)
        self._told = set(events)

    def _located(self, outcome: Outcome) -> list[str]:
        """All errors of a policy, each with its place."""
        assert self._objects is not None
        (document,) = [
            each
            for each in self._objects.policies
            if (each.namespace, each.name) == (outcome.namespace, outcome.name)
        ]
        return [document.located(error) for error in outcome.compilation.errors]

    async def _follow(self) -> None:
        """Poll until cancelled; take an edit whole, or not at all."""
        before = self._seen
        while True:
            await asyncio.sleep(self._poll_interval)
            now = signature(self._paths)
            if now != self._seen and now == before:
                self._seen = now
                await self._take_edit()
            before = now

    async def _take_edit(self) -> None:
        try:
            self._objects = await asyncio.to_thread(self._files.read)
            self._edit_problems = []
        except Unreadable as error:
            self._edit_problems = [Problem(text) for text in error.errors]
        self._reconciler.mark_dirty()


def _selected(result: Plan) -> Selected | None:
    """None: the first policy does not compile."""
    for outcome in result.outcomes:
        if outcome.screened and (managed := outcome.compilation.managed) is not None:
            return Selected(outcome.namespace, outcome.name, managed.snapshot.version)
    return None
