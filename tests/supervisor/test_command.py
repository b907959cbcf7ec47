"""The command as a process: settings, the signal that drains, `drain`, and arguments that can't be used."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import click
import pytest
from click.testing import CliRunner
from controlclient.control_server import TOKEN, control_server
from controlclient.snapshots import snapshot
from eventually import until
from loopback_ports import free_port
from postwarden_sidecar.cli import main
from postwarden_sidecar.option_types import Duration, HandoffName, HostPort, Networks, UpstreamTarget
from postwarden_sidecar.rules.settings import Handoff
from postwarden_sidecar.supervisor.cpu_limit import workers_by_cpu_limit
from supervisor.scripted_mta import scripted_mta
from supervisor.sidecars import Client

COMMAND = Path(sys.executable).with_name("postwarden-sidecar")


@contextlib.asynccontextmanager
async def command(*arguments: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        env={"PATH": os.environ["PATH"]} | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def get(port: int, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as response,
    ):
        return response.status, await response.text()


async def status_of(port: int, path: str, expected: int) -> None:
    """Until the endpoint is there and answers so."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(OSError, aiohttp.ClientError):
                if (await get(port, path))[0] == expected:
                    return
            await asyncio.sleep(0.02)


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


async def test_sigterm_drains_and_exits_0(tmp_path: Path) -> None:
    listen, health, metrics = free_port(), free_port(), free_port()
    token = tmp_path / "token"
    token.write_text(TOKEN)
    async with (
        control_server(tmp_path) as operator,
        scripted_mta() as mta,
        command(
            "run",
            f"--listen=127.0.0.1:{listen}",
            f"--health=127.0.0.1:{health}",
            f"--metrics=127.0.0.1:{metrics}",
            f"--control=unix:{operator.path}",
            f"--token-file={token}",
            f"--state-dir={tmp_path / 'state'}",
            "--log-format=postscreen",
            POSTWARDEN_UPSTREAM=f"127.0.0.1:{mta.port}",
            POSTWARDEN_HANDOFF="plain",
        ) as process,
    ):
        stream = await operator.stream()
        stream.snapshot(snapshot("v1", "n1"))
        await stream.next("ack")
        await status_of(health, "/readyz", 200)
        assert (await get(health, "/healthz"))[0] == 200
        assert await get(health, "/upstream") == (200, "the MTA answers\n")
        relayed = await connect(listen)
        assert (await relayed.reply()).startswith("220 mx.example.org")
        assert "postwarden_connections_total" in (await get(metrics, "/metrics"))[1]
        process.send_signal(signal.SIGTERM)
        await status_of(health, "/readyz", 503)
        assert (await relayed.ask("NOOP")).startswith("250")
        assert (await relayed.ask("QUIT")).startswith("221")
        await relayed.close()
        out, err = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0, err.decode()
        assert b"postfix/postscreen[" in out
        assert b"Traceback" not in err


async def test_load_balancers_of_the_bootstrap_are_believed_while_there_is_no_policy() -> None:
    listen, health = free_port(), free_port()
    async with (
        scripted_mta() as mta,
        command(
            "run",
            POSTWARDEN_LISTEN=f":{listen}",
            POSTWARDEN_HEALTH=f":{health}",
            POSTWARDEN_UPSTREAM=f"127.0.0.1:{mta.port}",
            POSTWARDEN_HANDOFF="Plain",
            POSTWARDEN_PROXY_TRUSTED="127.0.0.0/8",
        ) as process,
    ):
        await status_of(health, "/upstream", 200)
        client = await connect(listen)
        client.writer.write(b"PROXY TCP4 203.0.113.5 192.0.2.25 4001 25\r\n")
        assert (await client.reply()).startswith("220 mx.example.org")
        assert (await client.ask("QUIT")).startswith("221")
        await client.close()
        process.send_signal(signal.SIGTERM)
        out, _ = await asyncio.wait_for(process.communicate(), 20)
        assert b'"203.0.113.5"' in out


async def test_a_second_signal_ends_at_once() -> None:
    listen, health = free_port(), free_port()
    async with (
        scripted_mta() as mta,
        command(
            "run",
            f"--listen=127.0.0.1:{listen}",
            f"--health=127.0.0.1:{health}",
            f"--upstream=127.0.0.1:{mta.port}",
            "--handoff=plain",
        ) as process,
    ):
        await status_of(health, "/readyz", 200)
        await status_of(health, "/upstream", 200)
        relayed = await connect(listen)
        await relayed.reply()
        process.send_signal(signal.SIGTERM)
        await status_of(health, "/readyz", 503)
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), 5)
        assert process.returncode == 0, err.decode()
        assert b"Traceback" not in err
        await relayed.close()


async def test_drain_asks_the_running_sidecar_and_waits_for_it(tmp_path: Path) -> None:
    health = free_port()
    async with (
        scripted_mta() as mta,
        command(
            "run",
            "--listen=127.0.0.1:0",
            f"--health=127.0.0.1:{health}",
            f"--upstream=127.0.0.1:{mta.port}",
            "--handoff=plain",
            "--drain-delay=500ms",
            f"--state-dir={tmp_path}",
        ) as process,
    ):
        await status_of(health, "/readyz", 200)
        async with command("drain", f"--state-dir={tmp_path}") as draining:
            await status_of(health, "/readyz", 503)
            assert draining.returncode is None
            assert await asyncio.wait_for(draining.wait(), 10) == 0
        assert process.returncode is None  # it ends with SIGTERM, when the MTA is gone
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 3) == 0


async def test_a_worker_does_not_outlive_a_supervisor_that_was_killed() -> None:
    health = free_port()
    async with command("run", "--listen=127.0.0.1:0", f"--health=127.0.0.1:{health}") as process:
        await status_of(health, "/readyz", 200)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        (worker,) = children.read_text().split()  # noqa: ASYNC240
        process.kill()
        await process.wait()
        await until(lambda: not Path(f"/proc/{worker}").exists() or "State:\tZ" in status(worker))


def status(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/status").read_text()
    return "State:\tZ"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Missing option '--listen'"),
        (["--listen=25"], "'25' is not HOST:PORT, as in 127.0.0.1:10025"),
        (["--listen=::1:25"], "'::1:25': an IPv6 address is written in brackets, as in [::1]:10025"),
        (["--listen=:25", "--upstream=unix:mta"], "give the socket's absolute path"),
        (["--listen=:25", "--upstream=127.0.0.1:0"], "names no host and port to connect to"),
        (["--listen=:25", "--handoff=proxy"], "'proxy' is none of plain, proxy-v1, proxy-v2 and pass"),
        (["--listen=:25", "--drain-delay=soon"], "'soon' is no duration, as in 20s or 500ms"),
        (["--listen=:25", "--workers=0"], "0 is not in the range 1<=x<=64"),
        (["--listen=:25", "--control=operator:443"], "--control needs --token-file"),
        (["--listen=:25", "--token-file=/t"], "--token-file is of no use without --control"),
        (
            ["--listen=:25", "--control=operator:443", "--token-file=/t"],
            "--control needs --ca-file or --ca, unless it is a unix socket",
        ),
        (
            ["--listen=:25", "--control=operator:443", "--token-file=/t", "--ca-file=/dev/null"],
            "--ca-file /dev/null holds no certificate in PEM",
        ),
        (
            ["--listen=:25", "--control=operator:443", "--token-file=/t", "--control-keepalive=2s"],
            "--control-keepalive 2s: the operator sends away who pings more often than every 10s",
        ),
        (["--listen=:25", "--admin=0.0.0.0:10028"], "'0.0.0.0:10028' could be reached by others"),
        (
            ["--listen=:25", "--control=operator:443", "--token-file=/t", "--ca=no PEM"],
            "--ca holds no certificate in PEM",
        ),
        (["--listen=:25", "--ca=x", "--ca-file=/dev/null"], "--ca and --ca-file exclude each other"),
        (["--listen=:25", "--pod-ip=pod"], "--pod-ip 'pod' is no IP address"),
        (
            ["--listen=:25", "--proxy-trusted=10.0.0.1/8"],
            "'10.0.0.1/8' is no network, as in 192.0.2.0/24: 10.0.0.1/8 has host bits set",
        ),
    ],
)
def test_arguments_that_can_not_be_used_end_with_2_and_one_sentence(
    arguments: list[str], sentence: str
) -> None:
    result = CliRunner().invoke(main, ["run", *arguments])
    assert result.exit_code == 2
    assert sentence in " ".join(result.output.split())


def test_drain_without_a_sidecar_says_where_none_answers(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["drain", f"--state-dir={tmp_path}"])
    assert result.exit_code == 1
    assert f"no sidecar answers at {tmp_path}/admin.sock" in result.output


def test_help_has_examples() -> None:
    for name in ("run", "drain"):
        assert "Example" in CliRunner().invoke(main, [name, "--help"]).output


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (HostPort(), ":25", ("", 25)),
        (HostPort(), "[::1]:25", ("::1", 25)),
        (UpstreamTarget(), "[::1]:25", "[::1]:25"),
        (UpstreamTarget(), "unix:/run/mta", "unix:/run/mta"),
        (HandoffName(), "proxy-v2", Handoff.PROXY_V2),
        (HandoffName(), "ProxyV1", Handoff.PROXY_V1),
        (Networks(), "10.0.0.0/8, 10.1.0.0/16 2001:db8::1", ("10.0.0.0/8", "2001:db8::1/128")),
        (Duration(), "500ms", 0.5),
        (Duration(), "2m", 120.0),
        (Duration(), "7", 7.0),
    ],
)
def test_options_are_read_as_people_write_them(
    kind: click.ParamType[object], text: str, value: object
) -> None:
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("files", "workers"),
    [
        ({}, 1),
        ({"cpu.max": "max 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "99000000 100000\n"}, 64),
        ({"cpu.max": "nonsense"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ],
)
def test_workers_are_the_cpu_limit_rounded_up(files: dict[str, str], workers: int, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert workers_by_cpu_limit(tmp_path) == workers
