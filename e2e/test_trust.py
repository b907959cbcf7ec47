"""The operator's own CA through a whole rotation, with lifetimes of seconds: who is connected stays, who comes gets in.

Two replicas share the Secret; sidecars are real ones, and bare streams.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import grpc
import pytest
from harness.cluster import ApiServer
from harness.mail_attempt import first_reply
from harness.operator_authority import AuthorityOperator
from harness.polling import poll
from harness.screening_objects import mail_pod, policy, reject
from harness.sidecar_fixtures import StartSidecar
from harness.stream_client import StreamClient

LIFETIMES = ("--ca-lifetime=18s", "--ca-notice=3s", "--server-lifetime=3s")
"""The shortest that leave a busy machine time: a change of CA after some 15 s, its next one 11 s later."""

ZOMBIE = "127.66.6.6"


@pytest.fixture
def replicas(api_server: ApiServer, namespace: str) -> Iterator[tuple[AuthorityOperator, AuthorityOperator]]:
    """With a Secret of their own."""
    with ExitStack() as running:
        one, other = (
            AuthorityOperator(api_server, secret=f"ca-of-{namespace}", options=LIFETIMES) for _ in range(2)
        )
        running.enter_context(one)
        running.enter_context(other)
        yield one, other


def test_streams_live_on_through_a_change_of_the_ca_and_whoever_comes_gets_in(
    api_server: ApiServer,
    namespace: str,
    replicas: tuple[AuthorityOperator, AuthorityOperator],
    start_sidecar: StartSidecar,
) -> None:
    one, other = replicas
    first = one.secret_data()
    old = first["signer.crt"]
    assert first["ca.crt"] == old
    sidecar = start_sidecar(operator=one)  # its start-up setting is the old CA, and stays so
    tokens = [api_server.bound_token(mail_pod(api_server, namespace, f"bare-{n}")) for n in range(4)]
    with (
        StreamClient(one.address, old, tokens[0]) as early,
        StreamClient(other.address, old, tokens[1]) as elsewhere,
    ):
        for client in (early, elsewhere):
            assert client.trust_bundle() == old
            assert client.receive().WhichOneof("message") == "unmanaged"

        # Published: everyone who is connected is told, by each replica; the old CA signs still.
        poll(lambda: "next.crt" in one.secret_data(), 20, lambda: one.log())
        both = old + one.secret_data()["next.crt"]
        assert {early.trust_bundle(), elsewhere.trust_bundle()} == {both}
        kept = sidecar.state_dir / "trust.pem"
        poll(lambda: kept.exists() and kept.read_bytes() == both, 5, sidecar.log_tail)
        with StreamClient(other.address, old, tokens[2]) as starts_with_the_old_bundle:
            assert starts_with_the_old_bundle.trust_bundle() == both
            assert starts_with_the_old_bundle.receive().WhichOneof("message") == "unmanaged"

        # It signs: whoever was told gets in, and the streams from before have not ended.
        poll(lambda: one.secret_data()["signer.crt"] != old, 15, lambda: one.log())
        for replica in replicas:
            poll(partial(refuses, replica, old), 5, lambda: one.log() + other.log())
            with StreamClient(replica.address, both, tokens[3]) as new:
                assert new.receive().WhichOneof("message") == "unmanaged"
        sidecar.restart()
        access = {**reject("127.66.0.0/16"), "rejectAction": "Drop", "myNetworks": []}
        api_server.apply(policy("wall", namespace, access=access, pregreet={"banner": ""}))
        assert early.snapshot().name == elsewhere.snapshot().name == "wall"
        poll(lambda: first_reply(sidecar.address, ZOMBIE).startswith("521"), 10, sidecar.log_tail)
    logs = one.process.log.read_text() + other.process.log.read_text()
    assert logs.count("the next CA is published") == logs.count("the new CA in Secret") == 1
    assert "Traceback" not in logs


def refuses(replica: AuthorityOperator, trusted: bytes) -> bool:
    """Whether one who trusts only this is shown a certificate that it does not vouch for."""
    with StreamClient(replica.address, trusted, None) as client:
        return client.end() is grpc.StatusCode.UNAVAILABLE
