"""Who is no sidecar, or a bad one, against the real operator with the real API server: each hears why, and no honest sidecar notices.

An honest sidecar, a real one, is watched by its policy's status from the first impostor to the last.
"""

import asyncio
import contextlib
import http.client
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
from harness.cluster import ApiServer, Pod
from harness.forged_token import with_claims
from harness.mail_sink import MailSink
from harness.operator_process import OperatorProcess
from harness.repeated import Repeated
from harness.screening_objects import (
    conditions,
    config_map,
    mail_pod,
    policy,
    policy_object,
    reject,
    reject_listed,
    wait_for_reasons,
)
from harness.sidecar_process import SidecarProcess
from harness.stream_client import StreamClient
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc

LOOK = 0.1
"""Seconds between two looks at the honest sidecar's status."""

STREAMS, CONNECTIONS = 1000, 4
"""At once, over so many connections."""

GARBAGE = b"\x0a\xff\xff\xff\xff\x0f"
"""A field that is longer than the message."""


@dataclass
class Scene:
    api_server: ApiServer
    operator: OperatorProcess
    namespace: str
    pod: Pod
    """An impostor's own, a screened one."""
    token: str

    def stream(self, token: str | None, hello: pb.Hello | None = None) -> StreamClient:
        return StreamClient(self.operator.address, self.operator.ca_pem, token, hello=hello)

    def refused(self, token: str | None) -> tuple[grpc.StatusCode, str]:
        with self.stream(token) as client:
            return client.end(), client.details

    def channel(self) -> grpc.Channel:
        return grpc.secure_channel(self.operator.address, grpc.ssl_channel_credentials(self.operator.ca_pem))

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)


class Watched(Repeated):
    """What the status said of the honest sidecar, within the `with` block."""

    def __init__(self, api_server: ApiServer, namespace: str) -> None:
        super().__init__(LOOK)
        self._api_server, self._namespace = api_server, namespace
        self.seen: set[tuple[str, str]] = set()

    def _once(self) -> None:
        status = policy_object(self._api_server, "honest", self._namespace)["status"]
        (programmed,) = (each for each in status["conditions"] if each["type"] == "Programmed")
        self.seen.add((status["sidecars"]["summary"], programmed["reason"]))


@pytest.fixture(scope="module")
def scene(api_server: ApiServer, operator: OperatorProcess) -> Scene:
    namespace = "impostors"
    api_server.create_namespace(namespace)
    networks = "".join(f"10.{high}.{low}.0/28\n" for high in range(40) for low in range(250))
    api_server.apply(config_map("zombies", namespace, networks))
    api_server.apply(
        policy(
            "honest", namespace, selector={"matchLabels": {"tier": "honest"}}, access=reject_listed("zombies")
        ),
        policy(
            "other", namespace, selector={"matchLabels": {"tier": "other"}}, access=reject("192.0.2.0/24")
        ),
    )
    pod = mail_pod(api_server, namespace, "impostor", tier="other")
    return Scene(api_server, operator, namespace, pod, api_server.bound_token(pod))


@pytest.fixture(scope="module")
def honest(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A real sidecar, synced before the first impostor comes; at the end it was so all the time, and takes a new policy."""
    api_server, namespace = scene.api_server, scene.namespace
    pod = mail_pod(api_server, namespace, "honest", tier="honest")
    with (
        MailSink() as mta,
        SidecarProcess(
            tmp_path_factory.mktemp("honest"),
            upstream=mta.address,
            operator=scene.operator,
            token=api_server.bound_token(pod),
        ) as sidecar,
    ):
        wait_for_reasons(api_server, "honest", namespace, Programmed="True/Synced")
        with Watched(api_server, namespace) as watched:
            yield watched
        assert watched.seen == {("1/1", "Synced")}
        assert sidecar.log().count("no stream to the operator") == 0
        changed = policy(
            "honest", namespace, selector={"matchLabels": {"tier": "honest"}}, access=reject("192.0.2.0/24")
        )
        api_server.apply(changed)
        wait_for_reasons(api_server, "honest", namespace, Programmed="True/Synced")


pytestmark = pytest.mark.usefixtures("honest")


def test_tokens_that_prove_nothing_are_refused_each_with_its_reason(scene: Scene) -> None:
    api_server, key = scene.api_server, scene.api_server.directory / "service-account.key"
    unauthenticated, denied = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
    no_token = "no token: metadata `authorization: Bearer TOKEN` is needed"
    invalid = "no valid token for the audience postwarden.dev"
    assert scene.refused(None) == (unauthenticated, no_token)
    assert scene.refused("nonsense") == (unauthenticated, invalid)
    assert scene.refused(api_server.bound_token(scene.pod, "another.test")) == (unauthenticated, invalid)
    unbound = api_server.unbound_token("default", scene.namespace)
    assert scene.refused(unbound) == (denied, "the token is bound to no pod")
    now = int(time.time())
    good = with_claims(scene.token, key, exp=now + 600)  # what makes the next one bad is its end alone
    with scene.stream(good) as client:
        assert client.snapshot().name == "other"
    expired = with_claims(scene.token, key, iat=now - 7200, nbf=now - 7200, exp=now - 3600)
    assert scene.refused(expired) == (unauthenticated, invalid)


def test_deleted_pods_token_and_one_of_a_pod_without_our_label_are_refused(scene: Scene) -> None:
    api_server = scene.api_server
    gone = mail_pod(api_server, scene.namespace, "gone", tier="other")
    token = api_server.bound_token(gone)
    with scene.stream(token) as client:
        assert client.snapshot().name == "other"
        api_server.delete_pod(gone)
        assert client.end() is grpc.StatusCode.PERMISSION_DENIED
    unlabelled = api_server.bound_token(api_server.create_pod("web-0", scene.namespace))
    with scene.stream(token) as deleted, scene.stream(unlabelled) as web:  # both wait for the watch's lag
        # The API server keeps a good answer for 10 s: either the review fails, or the pod is known no more.
        assert deleted.end() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
        assert web.end() is grpc.StatusCode.PERMISSION_DENIED
        assert "is gone or lacks the label postwarden.dev/inject: true" in web.details


def test_another_pods_token_gives_that_pods_rules_and_no_others_whatever_is_claimed(scene: Scene) -> None:
    listed = policy_object(scene.api_server, "honest", scene.namespace)["status"]["revision"]
    claims = pb.Hello(sidecar_version="honest", revision=listed, version=listed, complete=True)
    with scene.stream(scene.token, claims) as client:
        snapshot = client.snapshot()
        assert snapshot.name == "other"
        assert sum(blob.size for blob in snapshot.blobs) < 1000  # the honest one's list is not among them


def test_blobs_that_were_not_named_to_the_pod_are_not_served(scene: Scene) -> None:
    spare = mail_pod(scene.api_server, scene.namespace, "spare", tier="honest-too")
    scene.api_server.apply(
        policy(
            "too",
            scene.namespace,
            selector={"matchLabels": {"tier": "honest-too"}},
            access=reject_listed("zombies"),
        )
    )
    with scene.stream(scene.api_server.bound_token(spare)) as owner, scene.stream(scene.token) as impostor:
        while (message := owner.receive()).WhichOneof("message") != "snapshot":
            pass
        blob = max(message.snapshot.blobs, key=lambda each: each.size)
        assert len(owner.fetch(blob.hash)) == blob.size
        impostor.snapshot()
        for digest in (blob.hash, "0" * 64, "", "../../etc/passwd"):
            with pytest.raises(grpc.RpcError) as refused:
                impostor.fetch(digest)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_acknowledging_what_was_never_sent_makes_nobody_synced(scene: Scene) -> None:
    api_server, namespace = scene.api_server, scene.namespace
    with scene.stream(scene.token) as client:
        snapshot = client.snapshot()
        client.send(pb.SidecarMessage(ack=pb.Ack(nonce="never sent", version=snapshot.version)))
        client.send(pb.SidecarMessage(ack=pb.Ack(nonce="", version="")))
        client.send(pb.SidecarMessage(ack=pb.Ack(nonce=snapshot.nonce, version="never\nsent")))
        wait_for_reasons(api_server, "other", namespace, Programmed="False/Rejected")
        message = conditions(api_server, "other", namespace)["Programmed"]["message"]
        assert "impostor: acknowledged version 'never?sent' in place of" in message
        client.ack(snapshot)  # too late: that nonce is answered
        reported = policy_object(api_server, "other", namespace)["status"]["sidecars"]
        assert (reported["synced"], reported["rejected"]) == (0, 1)


def test_plain_text_gets_no_word_out_of_the_operator(scene: Scene) -> None:
    with grpc.insecure_channel(scene.operator.address) as channel:
        call = pb_grpc.ScreeningControlStub(channel).Subscribe(
            iter(()), metadata=scene.metadata(), timeout=10
        )
        assert call.code() is grpc.StatusCode.UNAVAILABLE
    connection = http.client.HTTPConnection(scene.operator.address, timeout=10)
    connection.request("GET", "/")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse()
    connection.close()


def test_100_megabytes_and_nonsense_end_the_call_that_brought_them(scene: Scene) -> None:
    hello = pb.SidecarMessage(hello=pb.Hello(complete=True)).SerializeToString()
    huge = pb.SidecarMessage(nack=pb.Nack(reason="x" * 100_000_000)).SerializeToString()
    expected = {huge: grpc.StatusCode.RESOURCE_EXHAUSTED, GARBAGE: grpc.StatusCode.INVALID_ARGUMENT}
    service = "/postwarden.screening.v1.ScreeningControl"
    with scene.channel() as channel:
        for message, status in expected.items():
            subscribe: Any = channel.stream_stream(f"{service}/Subscribe")
            for sent in ((message,), (hello, message)):
                stream = subscribe(iter(sent), metadata=scene.metadata(), timeout=20)
                with pytest.raises(grpc.RpcError):
                    list(stream)
                assert stream.code() is status
            fetch: Any = channel.unary_stream(f"{service}/FetchBlob")
            assert fetch(message, metadata=scene.metadata(), timeout=20).code() is status


def test_a_thousand_streams_of_one_pod_are_one_and_of_nobody_none(scene: Scene) -> None:
    with_token = asyncio.run(open_streams(scene, scene.metadata()))
    # HTTP/2 refuses what is above a connection's limit before the operator sees it, which gRPC calls UNAVAILABLE.
    too_many = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
    assert set(with_token) <= {*too_many, grpc.StatusCode.ABORTED, None}
    assert with_token[None] == 1
    assert with_token[grpc.StatusCode.ABORTED] < 20  # each a stream that a newer one replaced
    without = asyncio.run(open_streams(scene, ()))
    assert set(without) <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE}
    assert without[grpc.StatusCode.UNAUTHENTICATED] >= 100 * CONNECTIONS


async def open_streams(
    scene: Scene, metadata: tuple[tuple[str, str], ...]
) -> Counter[grpc.StatusCode | None]:
    """How many streams ended with which status; None: not at all, in the time in which nearly all others did."""
    credentials = grpc.ssl_channel_credentials(scene.operator.ca_pem)
    channels = [
        grpc.aio.secure_channel(
            scene.operator.address, credentials, options=(("grpc.use_local_subchannel_pool", 1),)
        )
        for _ in range(CONNECTIONS)
    ]

    async def stream(number: int) -> grpc.StatusCode:
        call = pb_grpc.ScreeningControlStub(channels[number % CONNECTIONS]).Subscribe(metadata=metadata)
        if "postwarden-admitted" in dict(await call.initial_metadata()):
            with contextlib.suppress(grpc.aio.AioRpcError):  # the status tells
                await call.write(pb.SidecarMessage(hello=pb.Hello(complete=True)))
                while await call.read() is not grpc.aio.EOF:
                    pass
        return await call.code()

    for channel in channels:
        await (
            channel.channel_ready()
        )  # who sends before it heard the server's limits is refused by HTTP/2 itself

    streams = [asyncio.create_task(stream(number)) for number in range(STREAMS)]
    live = 1 if metadata else 0
    async with asyncio.timeout(20):
        while sum(each.done() for each in streams) < STREAMS - live:  # noqa: ASYNC110  (the last one never ends)
            await asyncio.sleep(0.05)
    ends = Counter(each.result() if each.done() else None for each in streams)
    for each in streams:
        each.cancel()
    await asyncio.wait(streams)
    for channel in channels:
        await channel.close()
    return ends
