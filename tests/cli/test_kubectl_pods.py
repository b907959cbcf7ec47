"""`kubectl postwarden tail|explain|diff` as programs, of real sidecars behind a stand-in of the API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli.pod_stand_in import PodStandIn, namespace_of_pods, pod
from loopback_ports import free_port
from postwarden_sidecar.engine.record import Verdict
from supervisor.scripted_mta import scripted_mta
from supervisor.sidecars import Sidecar, plain, sidecar, visit

PLUGIN = Path(sys.executable).with_name("kubectl-postwarden")
POLICIES = "/apis/postwarden.dev/v1alpha1/namespaces/mail/screeningpolicies"


@pytest.fixture
async def pods(tmp_path: Path) -> AsyncIterator[PodStandIn]:
    async with namespace_of_pods(tmp_path) as stand_in:
        yield stand_in


@asynccontextmanager
async def running(pods: PodStandIn, name: str, **labels: str) -> AsyncIterator[Sidecar]:
    """A pod with a sidecar that has no operator."""
    port = free_port()
    async with (
        scripted_mta() as mta,
        sidecar(flags=plain(mta.port), admin=("127.0.0.1", port)) as found,
    ):
        pods.add(pod(name, **labels), port)
        yield found


@dataclass
class Program:
    process: asyncio.subprocess.Process

    async def line(self) -> dict[str, object]:
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            return dict(json.loads(await self.process.stdout.readline()))

    async def note(self) -> str:
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            return (await self.process.stderr.readline()).decode().strip()


@asynccontextmanager
async def plugin(pods: PodStandIn, *arguments: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        PLUGIN,
        *arguments,
        env={"PATH": os.environ["PATH"], "KUBECONFIG": str(pods.kubeconfig)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.communicate()


async def told(pods: PodStandIn, *arguments: str) -> tuple[int | None, str, str]:
    """Exit code, stdout and stderr of a command that ends by itself."""
    async with plugin(pods, *arguments) as program, asyncio.timeout(30):
        out, err = await program.process.communicate()
        return program.process.returncode, out.decode(), err.decode()


async def one_client(of: Sidecar) -> None:
    async with visit(of) as client:
        assert (await client.reply()).startswith("220")


async def test_tail_follows_pods_that_come_and_ends_by_ctrl_c(pods: PodStandIn) -> None:
    async with running(pods, "mta-0", app="postfix") as first:
        pods.add(pod("web-0", container="nginx"))
        async with plugin(pods, "tail", "-l", "app=postfix") as tail:
            assert await tail.note() == "mta-0: following"
            await one_client(first)
            line = await tail.line()
            assert (line["k8s.pod.name"], line["postwarden.verdict"]) == ("mta-0", Verdict.UNSCREENED.value)
            async with running(pods, "mta-1", app="postfix") as second:
                assert await tail.note() == "mta-1: following"
                await one_client(second)
                assert (await tail.line())["k8s.pod.name"] == "mta-1"
            assert "mta-1: the " in await tail.note()  # its sidecar ended
            del pods.pods["mta-1"]
            while (said := await tail.note()) != "mta-1: it is gone":
                assert said.startswith("mta-1: "), said
            tail.process.send_signal(signal.SIGINT)
            assert await tail.process.wait() == 130
            assert await tail.note() == ""


async def test_tail_is_filtered_by_the_sidecar(pods: PodStandIn) -> None:
    async with (
        running(pods, "mta-0") as found,
        plugin(pods, "tail", "mta-0", "--address", "127.0.0.9,192.0.2.0/24") as tail,
    ):
        assert await tail.note() == "mta-0: following"
        await one_client(found)
        reader, writer = await asyncio.open_connection("127.0.0.1", found.port, local_addr=("127.0.0.9", 0))
        await reader.readline()
        writer.close()
        assert (await tail.line())["client.address"] == "127.0.0.9"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tail", "nobody"), "there is no pod nobody in namespace mail"),
        (("tail", "web-0"), "pod web-0 has no Postwarden sidecar (no container named postwarden-sidecar): "),
        (("tail", "--policy", "wall"), "there is no ScreeningPolicy wall in namespace mail"),
        (
            ("explain", "192.0.2.1", "-l", "app=none"),
            "no pod with the labels app=none in namespace mail has a ",
        ),
        (("explain", "mail.example"), "'mail.example' is not an IP address, as in 192.0.2.1"),
        (("tail", "--verdict", "spam"), "Error: --verdict: 'spam' is none of allowlisted, "),
        (("tail", "mta-0", "-l", "app=postfix"), "Error: give pods by name, or -l, not both"),
        (("tail", "deployment/mta"), "'deployment/mta' is no pod's name"),
        (
            ("tail", "old-0"),
            "pod old-0 has no admin endpoint on port 10028: its sidecar is older than the endpoint, or was started without "
            "--admin 127.0.0.1:10028",
        ),
        (("explain", "192.0.2.1", "old-0"), "pod old-0 has no admin endpoint on port 10028"),
        (("diff", "pending-0"), "pod pending-0 is not running, it is Pending"),
    ],
)
async def test_what_can_not_be_asked_is_one_sentence_and_exit_code_2(
    pods: PodStandIn, arguments: tuple[str, ...], said: str
) -> None:
    pods.objects[POLICIES] = {"items": [], "metadata": {}}
    pods.add(pod("web-0", container="nginx"))
    pods.add(pod("old-0"))
    pods.add(pod("pending-0", phase="Pending"))
    code, out, err = await told(pods, *arguments)
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1], err
    assert "Traceback" not in err


async def test_without_the_right_to_forward_ports_the_rights_are_named(pods: PodStandIn) -> None:
    pods.refusal = 403
    pods.add(pod("mta-0"))
    for arguments in (("tail",), ("explain", "192.0.2.1")):
        code, _, err = await told(pods, *arguments)
        assert code == 2
        assert (
            "you may not forward ports of pods in namespace mail: that takes the verbs get and create on"
            in err
        )
        assert len(err.splitlines()) == 1


async def test_explain_asks_every_pod(pods: PodStandIn) -> None:
    async with running(pods, "mta-0"), running(pods, "mta-1"):
        code, out, err = await told(pods, "explain", "192.0.2.1")
        assert (code, err) == (0, "")
        answers = [json.loads(line) for line in out.splitlines()]
        assert [answer["k8s.pod.name"] for answer in answers] == ["mta-0", "mta-1"]
        assert answers[0]["steps"] == ["no policy is in force: every client is handed to the MTA"]


async def test_diff_tells_a_policy_that_is_not_in_force_yet(pods: PodStandIn) -> None:
    spec = {"selector": {"matchLabels": {"app": "postfix"}}}
    wall = {"metadata": {"name": "wall", "namespace": "mail", "uid": "u", "generation": 1}, "spec": spec}
    pods.objects[POLICIES] = {"items": [], "metadata": {}}
    async with running(pods, "mta-0", app="postfix"), running(pods, "mta-1", app="exim"):
        pods.objects[POLICIES] = {"items": [wall], "metadata": {}}
        code, out, err = await told(pods, "diff")
        assert (code, err) == (1, "")
        first, second = (json.loads(line) for line in out.splitlines())
        assert (first["in_force"], first["wanted"]) == ("", "mail/wall")
        assert "no policy is in force, mail/wall is wanted" in first["notes"]
        assert (second["in_force"], second["wanted"]) == ("", "")
        # --policy: only the pods that it is wanted for.
        _, out, _ = await told(pods, "diff", "--policy", "wall")
        assert [json.loads(line)["k8s.pod.name"] for line in out.splitlines()] == ["mta-0"]
