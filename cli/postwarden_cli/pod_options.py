"""What the commands have that ask sidecars in a cluster: which pods, and the connection to the cluster."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import click
from postwarden_operator.kube.api import ClusterApi, NoCluster, default_namespace

from postwarden_cli.admin_client import PORT, Refused, Unanswered
from postwarden_cli.exit_codes import INTERRUPTED, UNANSWERED
from postwarden_cli.sidecar_pods import Selection, SidecarPod, find

AT_ONCE = 20  # sidecars asked at a time

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Answer = TypeVar("_Answer")


def which_pods(command: _Command) -> _Command:
    """Options that give `namespace`, `selector`, `policy` and `port`."""
    for option in (
        click.option(
            "--port",
            type=click.IntRange(1, 65535),
            default=PORT,
            show_default=True,
            help="Where the sidecars' admin endpoint listens.",
        ),
        click.option("--policy", default="", metavar="NAME", help="Pods for which this policy is in force."),
        click.option(
            "-l",
            "--selector",
            default="",
            metavar="LABELS",
            help="Pods with these labels, as in app=postfix.",
        ),
        click.option(
            "-n", "--namespace", default=None, help="Whose pods  [default: your kubeconfig's, else default]"
        ),
    ):
        command = option(command)
    return command


def selection_of(pods: Sequence[str], namespace: str | None, selector: str, policy: str) -> Selection:
    """Raises click.UsageError. A pod may be written as `pod/NAME`, too."""
    names = tuple(name.removeprefix("pod/").removeprefix("pods/") for name in pods)
    for name in names:
        if not name or "/" in name:
            raise click.UsageError(f"{name!r} is no pod's name: give it as `kubectl get pods` shows it")
    if names and selector:
        raise click.UsageError("give pods by name, or -l, not both")
    return Selection(namespace or default_namespace(), names, selector, policy)


async def ask_each(
    selection: Selection,
    port: int,
    question: Callable[[ClusterApi, SidecarPod, Sequence[SidecarPod]], Awaitable[_Answer]],
) -> list[tuple[SidecarPod, _Answer | Unanswered | Refused]]:
    """The answer of each pod to `question` (which is told of all of them, too), or why there is none. Raises NoCluster, Unanswered and
    Refused where no pod can be asked."""
    api = await ClusterApi.connect()
    try:
        pods = await find(api, selection)
        if not pods:
            raise Refused(nobody(selection))
        room = asyncio.Semaphore(AT_ONCE)

        async def one(pod: SidecarPod) -> _Answer | Unanswered | Refused:
            async with room:
                try:
                    return await question(api, pod, pods)
                except (Unanswered, Refused) as problem:
                    return problem

        return list(zip(pods, await asyncio.gather(*map(one, pods)), strict=True))
    finally:
        await api.close()


def answers_or_exit(asking: Coroutine[Any, Any, _Answer]) -> _Answer:
    """What it returns. Where no pod can be asked, the command ends with the reason and exit code UNANSWERED."""
    try:
        return asyncio.run(asking)
    except (NoCluster, Unanswered, Refused) as nothing:
        click.echo(f"kubectl postwarden: {nothing}", err=True)
        sys.exit(UNANSWERED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def nobody(selection: Selection) -> str:
    """That there is no pod."""
    of = f" of policy {selection.policy}" if selection.policy else ""
    with_labels = f" with the labels {selection.selector}" if selection.selector else ""
    return f"no pod{of}{with_labels} in namespace {selection.namespace} has a Postwarden sidecar"
