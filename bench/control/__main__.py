"""`python -m bench.control`: the control plane's figures, as a table and, last, as one line of JSON.

Contract: everything is real but the sidecars' inside: etcd, kube-apiserver, the operator as a process of its
own with its own rights, a TLS connection and a pod-bound token for every sidecar. All share this machine's
cores, so the operator's CPU is what tells of it, and times are an upper bound.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import click
from harness.cluster import ApiServer
from harness.operator_process import OperatorProcess
from harness.toolchain import kubernetes_tools
from postwarden_operator.kube.api import MERGE_PATCH, ClusterApi
from rich.console import Console
from rich.table import Table

from bench.control import enforced
from bench.control.fleet import Fleet, FleetFailed
from bench.control.population import ALL, FLEET, NOBODY, POLICIES_PATH, SOME, Sizes, populate, selects
from bench.control.renewal import Renewable
from bench.control.usage import Usage, usage

REST = 30.0
"""Seconds of rest that are measured: the pings of all sidecars come once in 30 s."""

SETTLE = 30.0
"""Seconds before them: a thousand statuses were written since the start, and kopf hears of each."""

BUSY = 30
"""Changes, one a second, for the operator's CPU under change."""

PATIENCE = 120.0
"""Seconds in which something must have happened; above, the run is a failure."""

BATCH = 50
"""Sidecars that a rollout replaces at a time."""

POLL = 0.02
"""Seconds between two questions to the fleet; what it measures does not depend on them."""

PARTS = ("all-acked", "some-acked", "rest", "one-a-second", "rollout", "renewal", "enforced")
"""What is measured, in this order."""

_err = Console(stderr=True)


class Failed(click.ClickException):
    """What did not happen in time."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--sidecars", default=1000, help="Simulated sidecars, a stream each.")
@click.option("--policies", default=1000, help="Policies in the cluster.")
@click.option(
    "--pods", default=10_000, help="Pods that are labelled for screening, the sidecars' among them."
)
@click.option("--group", default=10, help="Sidecars that the policy for a few matches.")
@click.option("--changes", default=100, help="Changes of a policy that are timed, of each kind.")
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(PARTS),
    help="Measure this part only; may be given again. All of them without it.",
)
def main(sidecars: int, policies: int, pods: int, group: int, changes: int, parts: tuple[str, ...]) -> None:
    """Measure the operator with many sidecars, policies and pods.

    \b
    Example, a quick look:
      python -m bench.control --sidecars 100 --policies 100 --pods 1000 --changes 10
    """
    figures = _Run(Sizes(sidecars, policies, pods, group), changes, parts or PARTS).figures()
    table = Table(title="The control plane")
    table.add_column("Figure")
    table.add_column("Value", justify="right")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)
    click.echo(json.dumps(figures))


class _Run:
    def __init__(self, sizes: Sizes, changes: int, parts: Sequence[str]) -> None:
        self._sizes, self._changes, self._parts = sizes, changes, parts
        self._figures: dict[str, float] = {
            "sidecars": sizes.sidecars,
            "policies": sizes.policies,
            "pods": sizes.pods,
        }

    def figures(self) -> dict[str, float]:
        """All of them, in the order in which they were measured. Raises Failed."""
        with ExitStack() as stack:
            self._api_server = stack.enter_context(ApiServer(kubernetes_tools()))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self._certificate = Renewable(folder, (OperatorProcess.host,))
            self._operator = stack.enter_context(OperatorProcess(self._api_server, tls=folder))
            self._operator.process.kill()  # it starts again when the cluster is populated
            _say(f"making {self._sizes.pods} pods and {self._sizes.policies} policies")
            tokens = asyncio.run(self._populate())
            began = time.monotonic()
            self._operator.start()
            self._set("operator_start_s", time.monotonic() - began)
            self._set("operator_start_rss_mb", self._usage().rss)
            _say(f"connecting {self._sizes.sidecars} sidecars")
            self._fleet = stack.enter_context(Fleet(self._operator.address, self._operator.ca_pem, tokens))
            try:
                self._measure()
            except (Failed, FleetFailed) as failed:
                raise Failed(f"{failed}\n{self._operator.log()}") from failed
            finally:
                for trouble in self._fleet.troubles():
                    _say(f"a stream was lost: {trouble}")
        return self._figures

    def _measure(self) -> None:
        measure = (
            self._all_acked,
            self._some_acked,
            self._rest,
            self._one_change_a_second,
            self._rollout,
            self._renewal,
            self._enforced,
        )
        self._connect()
        for name, part in zip(PARTS, measure, strict=True):
            if name in self._parts:
                part()

    async def _populate(self) -> list[str]:
        os.environ["KUBECONFIG"] = str(self._api_server.kubeconfig)
        api = await ClusterApi.connect()
        try:
            return await populate(self._api_server, api, self._sizes)
        finally:
            await api.close()

    def _connect(self) -> None:
        began = time.monotonic()
        before = self._usage()
        _until(
            lambda: len(self._fleet.acks(ALL, 1)) >= self._sizes.sidecars,
            "all sidecars to have their first rules",
        )
        self._set("connected_and_acked_s", time.monotonic() - began)
        self._set("connect_operator_cpu_s", self._usage().cpu - before.cpu)

    def _all_acked(self) -> None:
        _say(f"{self._changes} changes of the policy of all")
        before = self._usage()
        times = [self._change(ALL, self._sizes.sidecars) for _ in range(self._changes)]
        self._set("all_acked_p50_s", _quantile(times, 0.5))
        self._set("all_acked_p99_s", _quantile(times, 0.99))
        self._set("all_acked_operator_cpu_s", (self._usage().cpu - before.cpu) / self._changes)

    def _some_acked(self) -> None:
        _say(f"{self._changes} changes of the policy of {self._sizes.group}")
        self._patch(SOME, {"selector": selects("first")})
        _until(lambda: self._acked_newest(SOME) >= self._sizes.group, "the few to have their policy")
        times = [self._change(SOME, self._sizes.group) for _ in range(self._changes)]
        self._set("some_acked_p50_s", _quantile(times, 0.5))
        self._set("some_acked_p99_s", _quantile(times, 0.99))
        self._patch(SOME, {"selector": selects(NOBODY)})

    def _rest(self) -> None:
        _say(f"{REST:.0f} s of rest, after {SETTLE:.0f} s to settle")
        time.sleep(SETTLE)
        before, fleet = self._usage(), usage(self._fleet.pid)
        time.sleep(REST)
        after = self._usage()
        self._set("operator_idle_cpu", (after.cpu - before.cpu) / REST)
        self._set("operator_rss_mb", after.rss)
        self._set("fleet_idle_cpu", (usage(self._fleet.pid).cpu - fleet.cpu) / REST)

    def _one_change_a_second(self) -> None:
        _say(f"{BUSY} changes, one a second")
        before, began = self._usage(), time.monotonic()
        for number in range(BUSY):
            self._change(ALL, self._sizes.sidecars)
            time.sleep(max(0.0, began + number + 1 - time.monotonic()))
        after, took = self._usage(), time.monotonic() - began
        self._set("operator_busy_cpu", (after.cpu - before.cpu) / took)
        self._set("operator_busy_rss_mb", after.rss)

    def _rollout(self) -> None:
        _say("a rolling restart of all sidecars")
        before = self._usage()
        self._set("rollout_s", self._restart_all(lambda: None))
        self._set("rollout_operator_cpu_s", self._usage().cpu - before.cpu)

    def _renewal(self) -> None:
        _say(f"the same, and the operator's certificate is another for each {BATCH} sidecars")
        known = set(self._fleet.troubles())
        before = self._usage()
        self._set("renewal_rollout_s", self._restart_all(self._certificate.renew))
        self._set("renewal_rollout_operator_cpu_s", self._usage().cpu - before.cpu)
        self._set("renewal_troubles", len(set(self._fleet.troubles()) - known))

    def _restart_all(self, between: Callable[[], None]) -> float:
        """Seconds until all have come again and have their rules. between: called while the sidecars of each batch are away."""
        generation = self._generation(ALL)
        had = len(self._fleet.acks(ALL, generation))
        began = time.monotonic()
        for first in range(0, self._sizes.sidecars, BATCH):
            between()
            self._fleet.restart(first, min(BATCH, self._sizes.sidecars - first))
        _until(
            lambda: len(self._fleet.acks(ALL, generation)) >= had + self._sizes.sidecars,
            "all sidecars to have their rules again",
        )
        return time.monotonic() - began

    def _enforced(self) -> None:
        _say(f"{self._changes} changes from kubectl apply to the client that is turned away")
        try:
            measured = enforced.times(self._api_server, self._operator, self._changes)
        except (enforced.NotEnforced, TimeoutError) as error:
            raise Failed(f"{error}\n{self._operator.log()}") from error
        for name, each in (
            ("apply_to_enforced", [one.since_start for one in measured]),
            ("applied_to_enforced", [one.since_return for one in measured]),
            ("kubectl", [one.kubectl for one in measured]),
            ("kubectl_of_something_else", [one.something_else for one in measured]),
        ):
            self._set(f"{name}_p50_s", _quantile(each, 0.5))
            self._set(f"{name}_p99_s", _quantile(each, 0.99))

    def _change(self, name: str, sidecars: int) -> float:
        """Seconds from the write of a new generation to the last Ack."""
        began = time.monotonic()
        generation = self._patch(name, {"session": {"rejectFooter": f"at {began}"}})
        _until(lambda: len(self._fleet.acks(name, generation)) >= sidecars, f"all acknowledgements of {name}")
        return max(self._fleet.acks(name, generation)) - began

    def _patch(self, name: str, spec: dict[str, object]) -> int:
        """The new generation."""
        path = f"{POLICIES_PATH.format(FLEET)}/{name}"
        answer = self._api_server.request("PATCH", path, {"spec": spec}, content_type=MERGE_PATCH)
        return int(answer["metadata"]["generation"])

    def _generation(self, name: str) -> int:
        answer = self._api_server.request("GET", f"{POLICIES_PATH.format(FLEET)}/{name}")
        return int(answer["metadata"]["generation"])

    def _acked_newest(self, name: str) -> int:
        return len(self._fleet.acks(name, self._generation(name)))

    def _usage(self) -> Usage:
        return usage(self._operator.process.pid)

    def _set(self, name: str, value: float) -> None:
        self._figures[name] = round(value, 4)
        _say(f"{name} = {value:.4g}")


def _quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _until(reached: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > end:
            raise Failed(f"waited {PATIENCE:.0f} s in vain for {what}")
        time.sleep(POLL)


def _say(text: str) -> None:
    _err.print(text, style="dim", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
