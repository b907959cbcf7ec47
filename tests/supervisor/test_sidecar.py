"""A whole sidecar: supervisor, real worker processes, a scripted MTA and a scripted control plane."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from controlclient.control_server import control_server
from controlclient.snapshots import add_rule, snapshot
from eventually import until
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.rules.settings import Handoff
from postwarden_sidecar.supervisor import applied_rules
from postwarden_sidecar.supervisor.memory_file import Placed, memory_file
from postwarden_sidecar.supervisor.settings import SidecarSettings, UpstreamChoice, WithoutRules
from postwarden_sidecar.supervisor.supervisor import ListenFailed, Supervisor
from supervisor.scripted_mta import ScriptedMta, scripted_mta
from supervisor.sidecars import Client, Sidecar, plain, sidecar, visit


def deny_all(version: str, nonce: str, reply_with: pb.Action = pb.ACTION_DROP) -> pb.Snapshot:
    message = snapshot(version, nonce)
    message.rules.access.reject_action = reply_with
    add_rule(message, [("127.0.0.0/8", 2, 7)])
    return message


async def deliver(client: Client) -> None:
    assert (await client.reply()).startswith("220 mx.example.org")
    assert (await client.ask("EHLO client.example")).startswith("250")
    assert (await client.ask("MAIL FROM:<a@client.example>")).startswith("250")
    assert (await client.ask("RCPT TO:<b@example.org>")).startswith("250")
    assert (await client.ask("DATA")).startswith("354")
    assert (await client.ask("Subject: hello\r\n\r\nhello\r\n.")).startswith("250")
    assert (await client.ask("QUIT")).startswith("221")


async def turned_away(running: Sidecar) -> None:
    """Until new clients get 421: a worker that was told so may take one that came before it read it."""
    async with asyncio.timeout(10):
        while True:
            async with visit(running) as client:
                if (await client.reply()).startswith("421 4.3.2 "):
                    return


async def test_without_an_operator_clients_are_handed_over_unscreened() -> None:
    async with scripted_mta() as mta, sidecar(flags=plain(mta.port)) as running:
        async with visit(running) as client:
            await deliver(client)
        await until(lambda: running.records)
    assert mta.bodies == [b"Subject: hello\r\n\r\nhello\r\n.\r\n"]
    assert [record.verdict for record in running.records] == [Verdict.UNSCREENED]


async def test_without_rules_defer_turns_clients_away() -> None:
    async with (
        scripted_mta() as mta,
        sidecar(flags=plain(mta.port), without_rules=WithoutRules.DEFER) as running,
        visit(running) as client,
    ):
        assert (await client.reply()).startswith("421 4.3.2 ")


async def test_rules_are_acknowledged_once_the_workers_decide_by_them(tmp_path: Path) -> None:
    async with (
        control_server(tmp_path) as operator,
        scripted_mta() as mta,
        sidecar(ready=False, flags=plain(mta.port), control=operator.target, workers=2) as running,
    ):
        stream = await operator.stream()
        stream.snapshot(deny_all("v1", "n1"))
        assert await stream.next("ack") == pb.Ack(nonce="n1", version="v1")
        for _ in range(8):  # whichever worker it is
            async with visit(running) as client:
                assert (await client.reply()).startswith("521 ")
        stream.snapshot(snapshot("v2", "n2"))
        assert (await stream.next("ack")).version == "v2"
        async with visit(running) as client:
            await deliver(client)
        assert running.supervisor.policy is not None
        assert running.supervisor.policy.version == "v2"


async def test_a_bad_snapshot_is_refused_and_the_previous_rules_stay(tmp_path: Path) -> None:
    async with (
        control_server(tmp_path) as operator,
        scripted_mta() as mta,
        sidecar(ready=False, flags=plain(mta.port), control=operator.target) as running,
    ):
        stream = await operator.stream()
        stream.snapshot(deny_all("v1", "n1"))
        await stream.next("ack")
        bad = snapshot("v2", "n2")
        bad.rules.mode = 17  # type: ignore[assignment]  # that is the test
        stream.snapshot(bad)
        nack = await stream.next("nack")
        assert (nack.version, nack.reason) == ("v1", "rules.mode has the unknown value 17")
        async with visit(running) as client:
            assert (await client.reply()).startswith("521 ")


async def test_first_rules_that_workers_can_not_use_are_refused_and_clients_are_served_without_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    useless = [b"an image of no release at all"]
    monkeypatch.setattr(applied_rules, "place", lambda rules: Placed(rules, memory_file(useless), {}))
    async with (
        control_server(tmp_path) as operator,
        scripted_mta() as mta,
        sidecar(
            ready=False, flags=plain(mta.port), control=operator.target, state_dir=tmp_path / "state"
        ) as running,
    ):
        stream = await operator.stream()
        stream.snapshot(deny_all("v1", "n1"))
        nack = await stream.next("nack")
        assert (nack.nonce, nack.version) == ("n1", "")
        assert "worker 0 can't use the rules" in nack.reason
        await until(lambda: running.supervisor.proof is not None)
        async with visit(running) as client:
            await deliver(client)
    assert not (tmp_path / "state" / "rules.image").exists()


async def test_tables_that_the_disk_has_are_not_fetched_again_after_a_restart(tmp_path: Path) -> None:
    async with control_server(tmp_path) as operator, scripted_mta() as mta:
        settings = {"flags": plain(mta.port), "control": operator.target, "state_dir": tmp_path / "state"}
        async with sidecar(ready=False, **settings):
            first = snapshot("v1", "n1")
            operator.blobs |= add_rule(first, [("192.0.2.0/24", 2, 1)], inline=False)
            stream = await operator.stream()
            stream.snapshot(first)
            await stream.next("ack")
        operator.fetched.clear()
        async with sidecar(ready=False, **settings) as running:
            second = snapshot("v2", "n2")
            operator.blobs |= add_rule(second, [("192.0.2.0/24", 2, 1)], inline=False)
            (added,) = more = add_rule(second, [("127.0.0.0/8", 2, 2)], inline=False)
            operator.blobs |= more
            stream = await operator.stream()
            assert stream.hello.version == "v1"
            stream.snapshot(second)
            await stream.next("ack")
            assert operator.fetched == [added]
            async with visit(running) as client:
                assert (await client.reply()).startswith("521 ")


async def test_an_open_session_keeps_its_rules_and_is_not_disturbed_by_a_hundred_pushes(
    tmp_path: Path,
) -> None:
    async with (
        control_server(tmp_path) as operator,
        scripted_mta() as mta,
        sidecar(ready=False, flags=plain(mta.port), control=operator.target) as running,
    ):
        stream = await operator.stream()
        stream.snapshot(snapshot("v0", "n0"))
        await stream.next("ack")
        await running.supervisor.wait_ready()
        async with visit(running) as client:
            assert (await client.reply()).startswith("220 ")
            for number in range(1, 101):
                stream.snapshot(deny_all(f"v{number}", f"n{number}"))
                assert (await stream.next("ack")).version == f"v{number}"
                assert (await client.ask("NOOP")).startswith("250")
            assert (await client.ask("MAIL FROM:<a@client.example>")).startswith("250")
        async with visit(running) as client:
            assert (await client.reply()).startswith("521 ")


async def test_a_client_that_waits_when_a_worker_dies_is_served_by_its_successor() -> None:
    async with scripted_mta() as mta, sidecar(flags=plain(mta.port)) as running:
        (pid,) = running.supervisor.worker_pids
        os.kill(pid, signal.SIGSTOP)  # it accepts no one any more
        async with visit(running) as client:
            os.kill(pid, signal.SIGKILL)
            await deliver(client)
        (successor,) = running.supervisor.worker_pids
        assert successor != pid
        assert running.supervisor.ready


async def test_a_successor_has_the_rules_that_were_in_force(tmp_path: Path) -> None:
    async with (
        control_server(tmp_path) as operator,
        scripted_mta() as mta,
        sidecar(ready=False, flags=plain(mta.port), control=operator.target) as running,
    ):
        stream = await operator.stream()
        stream.snapshot(deny_all("v1", "n1"))
        await stream.next("ack")
        os.kill(running.supervisor.worker_pids[0], signal.SIGKILL)
        async with visit(running) as client:
            assert (await client.reply()).startswith("521 ")


async def test_rules_from_disk_are_in_force_while_the_operator_is_away(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with control_server(tmp_path) as operator, scripted_mta() as mta:
        how: dict[str, Any] = {"flags": plain(mta.port), "control": operator.target, "state_dir": state}
        async with sidecar(ready=False, **how):
            stream = await operator.stream()
            stream.snapshot(deny_all("v1", "n1"))
            await stream.next("ack")
        await operator.stop()
        async with sidecar(**how) as running:
            async with visit(running) as client:
                assert (await client.reply()).startswith("521 ")
            await operator.start()
            stream = await operator.stream()
            assert (stream.hello.version, stream.hello.revision) == ("v1", "rev-v1")
            # Unmanaged forgets them, in the workers and on disk.
            stream.send.put_nowait(pb.ControlMessage(unmanaged=pb.Unmanaged(nonce="n2")))
            assert await stream.next("ack") == pb.Ack(nonce="n2")
            async with visit(running) as client:
                await deliver(client)
        await operator.stop()
        async with sidecar(ready=False, **how) as running, visit(running) as client:
            await deliver(client)


async def test_hold_keeps_what_is_in_force_and_else_means_the_start_up_setting(tmp_path: Path) -> None:
    hold = pb.ControlMessage(hold=pb.Hold(reason="ConfigMap mail/lists is missing"))
    async with (
        control_server(tmp_path) as operator,
        scripted_mta() as mta,
        sidecar(
            ready=False, flags=plain(mta.port), control=operator.target, without_rules=WithoutRules.DEFER
        ) as running,
    ):
        stream = await operator.stream()
        stream.send.put_nowait(hold)
        async with visit(running) as client:
            assert (await client.reply()).startswith("421 4.3.2 ")
        stream.snapshot(deny_all("v1", "n1"))
        await stream.next("ack")
        stream.send.put_nowait(hold)
        stream.send.put_nowait(hold)
        async with visit(running) as client:
            assert (await client.reply()).startswith("521 ")


async def test_a_broken_last_known_good_is_one_warning_and_counts_as_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "rules.image").write_bytes(b"PWRULES1 and then nonsense of some length")
    async with (
        scripted_mta() as mta,
        sidecar(flags=plain(mta.port), state_dir=tmp_path) as running,
        visit(running) as client,
    ):
        await deliver(client)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"the last known good rules in {tmp_path}/rules.image are of no use: ")


async def test_an_upstream_is_used_only_once_it_is_proved() -> None:
    mta = ScriptedMta()
    await mta.listen()
    port = mta.port
    await mta.close()
    async with sidecar(flags=plain(port)) as running:
        async with visit(running) as client:
            assert (await client.reply()).startswith("421 4.3.2 ")
        await mta.listen(port)
        await until(
            lambda: running.supervisor.proof is not None and running.supervisor.proof.state == "Proved"
        )
        async with visit(running) as client:
            await deliver(client)
        await mta.close()


async def test_an_open_relay_is_refused_when_strict(tmp_path: Path) -> None:
    async with (
        control_server(tmp_path) as operator,
        scripted_mta(relays=True) as mta,
        sidecar(ready=False, flags=plain(mta.port), control=operator.target) as running,
    ):
        stream = await operator.stream()
        stream.snapshot(snapshot("v1", "n1"))
        report = await stream.next("handoff")
        assert (report.state, "relay for the world" in report.detail) == (pb.HANDOFF_STATE_OPEN_RELAY, True)
        async with visit(running) as client:
            assert (await client.reply()).startswith("421 4.3.2 ")


async def test_an_open_relay_is_warned_of_once_and_used_when_not_strict(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        scripted_mta(relays=True) as mta,
        sidecar(flags=plain(mta.port), strict_relay=False) as running,
        visit(running) as client,
    ):
        await deliver(client)
    assert caplog.text.count("would relay for the world") == 1


async def test_an_mta_that_is_reachable_past_the_sidecar_is_reported(tmp_path: Path) -> None:
    async with (
        control_server(tmp_path) as operator,
        scripted_mta(header="v1") as mta,
        sidecar(
            ready=False,
            flags=UpstreamChoice(f"127.0.0.1:{mta.port}", Handoff.PROXY_V1),
            control=operator.target,
            pod_ip="127.0.0.1",
        ),
    ):
        report = await (await operator.stream()).next("handoff")
    assert report.state == pb.HANDOFF_STATE_UPSTREAM_EXPOSED
    assert f"port {mta.port} answers on 127.0.0.1" in report.detail


async def test_passes_are_kept_over_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with control_server(tmp_path) as operator, scripted_mta() as mta:
        message = snapshot("v1", "n1", banner="mx.example.org")
        message.rules.pregreet.wait_ms = 50
        how: dict[str, Any] = {"flags": plain(mta.port), "control": operator.target, "state_dir": state}
        verdicts = []
        for _ in range(2):
            async with sidecar(ready=False, **how) as running:
                stream = await operator.stream()
                stream.snapshot(message)
                await stream.next("ack")
                await running.supervisor.wait_ready()
                async with visit(running) as client:
                    assert "220" in await client.reply()
                    await client.ask("QUIT")
                await until(lambda: running.records)
                verdicts += [record.verdict for record in running.records]
    assert verdicts == [Verdict.PASS_NEW, Verdict.PASS_OLD]


async def test_drain_turns_new_clients_away_lets_relays_end_and_then_closes_the_port() -> None:
    async with scripted_mta() as mta, sidecar(flags=plain(mta.port), drain_timeout=10.0) as running:
        async with visit(running) as relayed:
            await relayed.reply()
            port = running.port
            draining = asyncio.create_task(running.supervisor.drain())
            await turned_away(running)
            assert not running.supervisor.ready
            assert (await relayed.ask("EHLO client.example")).startswith("250")
            assert not draining.done()
            assert (await relayed.ask("QUIT")).startswith("221")
        await asyncio.wait_for(draining, 10)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_drain_does_not_wait_for_ever() -> None:
    async with (
        scripted_mta() as mta,
        sidecar(flags=plain(mta.port), drain_timeout=0.2) as running,
        visit(running) as relayed,
    ):
        await relayed.reply()
        await asyncio.wait_for(running.supervisor.drain(), 5)


async def test_during_the_drain_delay_all_goes_on_as_before() -> None:
    async with scripted_mta() as mta, sidecar(flags=plain(mta.port), drain_delay=0.3) as running:
        draining = asyncio.create_task(running.supervisor.drain())
        await asyncio.sleep(0)
        assert not running.supervisor.ready
        async with visit(running) as client:
            await deliver(client)
        assert not draining.done()
        await draining


async def test_a_port_in_use_is_one_sentence_and_leaves_nothing_behind() -> None:
    async with scripted_mta() as mta:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        supervisor = Supervisor(SidecarSettings(listen=("127.0.0.1", mta.port)))
        with pytest.raises(ListenFailed, match=rf"cannot listen on 127.0.0.1:{mta.port}: another process"):
            await supervisor.start()
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
