"""The API server and etcd away for minutes, for real: longer than any word of them counts (60 s).

One test, of the length of the outage: what it is about are the operator's own times, which are nobody's to set.
"""

import time
from collections.abc import Iterable

from harness.cluster import ApiServer
from harness.mail_attempt import first_reply, hears, last_reply_to_mail
from harness.mail_flow import RECIPIENT, MailFlow
from harness.mail_sink import MailSink
from harness.operator_process import OperatorProcess
from harness.screening_objects import mail_pod, policy, rejecting, wait_for_reasons
from harness.sidecar_fixtures import StartSidecar
from harness.sidecar_process import SidecarProcess
from harness.stream_client import StreamClient

AWAY = 150.0
"""Seconds: more than twice the limit."""

LIMIT = 60.0
"""Seconds after which what the operator knows of the cluster is too old to take anything away; a review of a token lives as long."""

SOON = 15.0
"""Seconds until a change after the return is in force where the stream lived on: kopf tries again every 5 s, and we ask each second."""

BACK_WITHIN = 75.0
"""Seconds until a sidecar whose token could not be reviewed is back: it waits up to 60 s, with jitter."""

ZOMBIE, OTHER_ZOMBIE, FRIEND = "127.66.6.6", "127.77.7.7", "127.0.9.9"


def still_enforced(sidecars: Iterable[SidecarProcess], seconds: float) -> None:
    """For so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for sidecar in sidecars:
            assert first_reply(sidecar.address, ZOMBIE).startswith("521"), sidecar.log_tail()
        time.sleep(1.0)


def test_minutes_without_the_api_server_change_nothing_and_then_an_edit_counts_soon(
    api_server: ApiServer,
    operator: OperatorProcess,
    namespace: str,
    start_sidecar: StartSidecar,
    mail_sink: MailSink,
) -> None:
    api_server.apply(policy("wall", namespace, **rejecting("127.66.0.0/16")))
    steady, restarted = start_sidecar("mta-0"), start_sidecar("mta-1")
    for sidecar in (steady, restarted):
        hears(sidecar, ZOMBIE, "521")
    watched = api_server.bound_token(mail_pod(api_server, namespace, "mta-2"))
    with StreamClient(operator.address, operator.ca_pem, watched) as stream, MailFlow(steady) as flow:
        stream.ack(stream.snapshot())
        wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
        with api_server.all_away():
            restarted.restart()
            still_enforced((steady, restarted), LIMIT + 20.0)
            assert "nothing is taken away meanwhile" in operator.whole_log()
            # The review of its token is forgotten by now, too.
            restarted.restart()
            still_enforced((steady, restarted), AWAY - LIMIT - 20.0)
            assert last_reply_to_mail(restarted.address, FRIEND).startswith("250 2.0.0")
            flow.wait_for(5)
            assert "no stream to the operator" not in steady.log()
        assert operator.process.alive()
        api_server.apply(policy("wall", namespace, **rejecting("127.77.0.0/16")))
        # Nothing came meanwhile: neither `unmanaged` nor `hold`, nor the same rules again.
        stream.ack(stream.snapshot(SOON))
        hears(steady, OTHER_ZOMBIE, "521")
        hears(restarted, OTHER_ZOMBIE, "521", BACK_WITHIN)
        flow.wait_for(5)
    assert flow.refused() == []
    assert mail_sink.recipients.count(RECIPIENT) == len(flow.replies)
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
