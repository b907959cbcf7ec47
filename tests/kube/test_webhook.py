"""The webhook over real TLS."""

import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from inject.golden import SETTINGS
from kube.test_admission import request_for
from postwarden_operator.inject import InjectionSettings
from postwarden_operator.kube.certificates import Pair, make_authority, make_server_certificate
from postwarden_operator.kube.webhook import Webhook, WebhookUnavailable
from postwarden_operator.kube.webhook_certificate import WebhookCertificate

DAY = 86400.0
NOW = 1_790_000_000.0
"""Within the lives of the certificates of these tests, whenever they run in the next years: they last for ten."""


def authority() -> Pair:
    return make_authority(NOW - 3650 * DAY, 7300 * DAY)


def leaf(signer: Pair) -> tuple[bytes, bytes]:
    pair = make_server_certificate(signer, ["127.0.0.1"], NOW - 3649 * DAY, 7200 * DAY)
    return pair.key, pair.certificate


@asynccontextmanager
async def served(
    certificate: WebhookCertificate, settings: InjectionSettings | None = SETTINGS
) -> AsyncIterator[Webhook]:
    def current() -> InjectionSettings:
        if settings is None:
            raise RuntimeError("a fault of ours")
        return settings

    webhook = Webhook(current)
    await webhook.start("127.0.0.1", 0, certificate.context)
    try:
        yield webhook
    finally:
        await webhook.stop()


async def ask(webhook: Webhook, ca: bytes, body: str) -> tuple[int, str]:
    trust = ssl.create_default_context(cadata=ca.decode())
    async with (
        aiohttp.ClientSession(f"https://127.0.0.1:{webhook.port}") as session,
        session.post("/inject", data=body, ssl=trust) as answer,
    ):
        return answer.status, await answer.text()


def pod(**annotations: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "mta",
            "labels": {"postwarden.dev/inject": "true"},
            "annotations": {f"postwarden.dev/{key}": value for key, value in annotations.items()},
        },
        "spec": {"containers": [{"name": "mta", "ports": [{"name": "smtp", "containerPort": 25}]}]},
    }


async def test_pod_is_answered_for_over_tls() -> None:
    signer = authority()
    async with served(WebhookCertificate(lambda: leaf(signer))) as webhook:
        status, text = await ask(webhook, signer.certificate, json.dumps(request_for(pod())))
        assert status == 200
        assert json.loads(text)["response"]["patchType"] == "JSONPatch"


async def test_refusal_and_warning_are_answers_and_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    signer = authority()
    async with served(WebhookCertificate(lambda: leaf(signer))) as webhook:
        _, refused = await ask(webhook, signer.certificate, json.dumps(request_for(pod(port="?"))))
        lenient = pod(port="?", **{"on-error": "Unscreened"})
        _, allowed = await ask(webhook, signer.certificate, json.dumps(request_for(lenient)))
    assert json.loads(refused)["response"]["allowed"] is False
    assert "starts UNSCREENED" in json.loads(allowed)["response"]["warnings"][0]
    assert "can't be screened" in caplog.text
    assert "UNSCREENED" in caplog.text


@pytest.mark.parametrize(
    ("body", "settings", "status"),
    [
        ("{", SETTINGS, 400),
        ("\xff", SETTINGS, 400),
        ("[]", SETTINGS, 400),
        (json.dumps(request_for(pod())), None, 500),
    ],
)
async def test_what_cannot_be_answered_is_an_error_of_http(
    body: str, settings: InjectionSettings | None, status: int
) -> None:
    """So that the failurePolicy decides about the pod."""
    signer = authority()
    async with served(WebhookCertificate(lambda: leaf(signer)), settings) as webhook:
        answer, text = await ask(webhook, signer.certificate, body)
        assert answer == status
        assert "fault of ours" not in text


async def test_new_certificate_of_another_ca_is_shown_at_the_next_handshake() -> None:
    first, second = authority(), authority()
    current = [leaf(first)]
    async with served(WebhookCertificate(lambda: current[0])) as webhook:
        assert (await ask(webhook, first.certificate, "{"))[0] == 400
        current[0] = leaf(second)
        assert (await ask(webhook, second.certificate, "{"))[0] == 400
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(webhook, first.certificate, "{")


@pytest.mark.parametrize("problem", [(b"", b""), OSError("gone")])
async def test_certificate_that_cannot_be_used_leaves_the_last_good_one(
    problem: tuple[bytes, bytes] | OSError, caplog: pytest.LogCaptureFixture
) -> None:
    signer = authority()
    good = leaf(signer)
    current: list[tuple[bytes, bytes] | OSError] = [good]

    def newest() -> tuple[bytes, bytes]:
        if isinstance(current[0], OSError):
            raise current[0]
        return current[0]

    async with served(WebhookCertificate(newest)) as webhook:
        current[0] = problem
        for _ in range(2):
            assert (await ask(webhook, signer.certificate, "{"))[0] == 400
        assert caplog.text.count("certificate in use stays") == 1


async def test_address_in_use_is_told() -> None:
    signer = authority()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WebhookUnavailable, match=rf"can't listen on 127.0.0.1:{port} for the webhook"):
            await Webhook(lambda: SETTINGS).start(
                "127.0.0.1", port, WebhookCertificate(lambda: leaf(signer)).context
            )
