"""`helm uninstall`: policies stay, mail flows on under the rules in force, and a new install finds all as it was."""

from harness.cluster_client import wait_for
from harness.mail_clients import ClientPod, Flow
from harness.mail_cluster import MailService
from harness.mail_cluster_fixtures import ENFORCED_WITHIN, enforce, hears, screening
from harness.one_node.fixtures import install, uninstall


def test_policies_and_mail_survive_it(
    mail_service: MailService, friend: ClientPod, zombie: ClientPod
) -> None:
    enforce(mail_service, **screening(f"{zombie.address}/32"))
    cluster = mail_service.cluster
    with Flow(friend, "uninstall") as flow:
        flow.wait_for(3)
        uninstall(cluster)
        assert cluster.get("spol", "wall", mail_service.namespace)["spec"]["access"]["rules"]
        assert hears(zombie, "mail", "521")
        flow.wait_for(5)
        install(cluster)
        enforce(mail_service, **screening())
        wait_for(lambda: hears(zombie, "mail", "250"), ENFORCED_WITHIN, "the new install's rules")
        flow.wait_for(5)
    assert flow.others == []
    flow.arrived()
