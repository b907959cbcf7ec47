"""Probes over real HTTP."""

import socket

import aiohttp
import pytest
from postwarden_operator.kube.health import Health, HealthUnavailable


async def test_probes_answer_what_is_so_at_that_moment() -> None:
    problems: dict[str, str | None] = {"alive": None, "ready": "not yet"}
    health = Health(lambda: problems["alive"], lambda: problems["ready"])
    await health.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{health.port}") as session:

            async def ask(path: str) -> tuple[int, str]:
                async with session.get(path) as answer:
                    return answer.status, await answer.text()

            assert await ask("/healthz") == (200, "ok\n")
            assert await ask("/readyz") == (503, "not yet\n")
            problems.update(alive="stuck", ready=None)
            assert await ask("/healthz") == (503, "stuck\n")
            assert await ask("/readyz") == (200, "ok\n")
    finally:
        await health.stop()


async def test_address_in_use_is_told() -> None:
    health = Health(lambda: None, lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HealthUnavailable, match=rf"can't listen on 127.0.0.1:{port} for probes"):
            await health.start("127.0.0.1", port)
