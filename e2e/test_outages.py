"""What is away harms no mail: the operator, the API server, or the sidecar's own process for a moment.

Rules in force stay in force, sessions go on, and what was changed meanwhile is enforced once all are back.
"""

from harness.cluster import ApiServer
from harness.mail_attempt import first_reply, hears, last_reply_to_mail
from harness.mail_flow import RECIPIENT, MailFlow
from harness.mail_sink import MailSink
from harness.operator_process import OperatorProcess
from harness.screening_objects import config_map, policy, reject_listed, rejecting, wait_for_reasons
from harness.sidecar_fixtures import StartSidecar
from harness.smtp import Client

BACK_WITHIN = 30.0
"""Seconds until a connection that was lost is made again: waits double from 1 s, with full jitter, for as long as the other was away."""

ZOMBIE, OTHER_ZOMBIE, FRIEND = "127.66.6.6", "127.77.7.7", "127.0.9.9"


def test_no_session_suffers_when_the_operator_is_killed_and_comes_back(
    api_server: ApiServer,
    operator: OperatorProcess,
    namespace: str,
    start_sidecar: StartSidecar,
    mail_sink: MailSink,
) -> None:
    sidecar = start_sidecar()
    api_server.apply(policy("wall", namespace, **rejecting("127.66.0.0/16")))
    hears(sidecar, ZOMBIE, "521")
    with MailFlow(sidecar) as flow, Client(*sidecar.listen, source=FRIEND) as session:
        session.greeted()
        flow.wait_for(1)
        with operator.away():
            sidecar.wait_for_log("no stream to the operator")
            assert first_reply(sidecar.address, ZOMBIE).startswith("521")
            api_server.apply(policy("wall", namespace, **rejecting("127.66.0.0/16", "127.77.0.0/16")))
            flow.wait_for(5)
        hears(sidecar, OTHER_ZOMBIE, "521", BACK_WITHIN)
        assert first_reply(sidecar.address, ZOMBIE).startswith("521")
        flow.wait_for(5)
        session.deliver("someone@example.org")
    assert flow.refused() == []
    assert mail_sink.recipients.count(RECIPIENT) == len(flow.replies)
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")


def test_sidecar_that_starts_while_the_operator_is_away_enforces_what_it_had(
    api_server: ApiServer, operator: OperatorProcess, namespace: str, start_sidecar: StartSidecar
) -> None:
    sidecar = start_sidecar()
    api_server.apply(config_map("zombies", namespace, "127.66.0.0/16\n"))
    access = {"myNetworks": [], "rejectAction": "Drop", **reject_listed("zombies")}
    api_server.apply(policy("wall", namespace, access=access, pregreet={"banner": ""}))
    hears(sidecar, ZOMBIE, "521")
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    with operator.away():
        sidecar.restart()
        assert first_reply(sidecar.address, ZOMBIE).startswith("521")
        assert last_reply_to_mail(sidecar.address, FRIEND).startswith("250 2.0.0")
        assert f"last known good rules of {namespace}/wall are in force" in sidecar.log()
    api_server.apply(config_map("zombies", namespace, "127.77.0.0/16\n"))
    hears(sidecar, OTHER_ZOMBIE, "521", BACK_WITHIN)
    api_server.kubectl("delete", "spol", "wall", f"--namespace={namespace}")
    hears(sidecar, OTHER_ZOMBIE, "220")
    # A policy that is gone does not come back from the disk.
    with operator.away():
        sidecar.restart()
        assert first_reply(sidecar.address, OTHER_ZOMBIE).startswith("220")


def test_nothing_changes_while_the_api_server_is_away(
    api_server: ApiServer, operator: OperatorProcess, namespace: str, start_sidecar: StartSidecar
) -> None:
    sidecar = start_sidecar()
    api_server.apply(policy("wall", namespace, **rejecting("127.66.0.0/16")))
    hears(sidecar, ZOMBIE, "521")
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    with api_server.away():
        with MailFlow(sidecar) as flow:
            flow.wait_for(20)
        assert flow.refused() == []
        assert "no stream to the operator" not in sidecar.log()
        assert first_reply(sidecar.address, ZOMBIE).startswith("521")
        # Its token can't be reviewed now, which says nothing against the token.
        sidecar.restart()
        assert first_reply(sidecar.address, ZOMBIE).startswith("521")
    assert first_reply(sidecar.address, ZOMBIE).startswith("521")
    assert operator.process.alive()
    api_server.apply(policy("wall", namespace, **rejecting("127.77.0.0/16")))
    hears(sidecar, OTHER_ZOMBIE, "521", BACK_WITHIN)
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
