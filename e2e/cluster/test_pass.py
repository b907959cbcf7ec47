"""The hand-off `Pass` in a pod: Postfix's queue directory is a volume, and smtpd gets clients by its socket there."""

from pathlib import Path

import pytest
from harness.mail_cluster import MailService
from harness.mail_cluster_fixtures import enforce, screening
from harness.one_node.fixtures import RealCluster
from harness.polling import poll


@pytest.fixture
def postdrop(postfix_root: Path) -> str:
    """The number of the group that may use Postfix's public sockets."""
    groups = dict(line.split(":")[::2] for line in (postfix_root / "etc/group").read_text().splitlines())
    return groups["postdrop"]


def test_a_mail_arrives_with_the_clients_own_address(installed: RealCluster, postdrop: str) -> None:
    annotations = {
        "postwarden.dev/handoff": "Pass",
        "postwarden.dev/socket-volume": "queue",
        "postwarden.dev/socket-group": postdrop,
        "postwarden.dev/drain-delay": "1s",
    }
    spec = screening()
    del spec["upstream"]  # as the annotations say
    with (
        MailService(installed, "pass", replicas=1, handoff="pass", annotations=annotations) as service,
        service.client("friend") as friend,
    ):
        enforce(service, **spec)
        said = friend.speak("good", subject="passed on")
        assert said.last.startswith("250 2.0.0"), (said, service.told())
        mails = poll(friend.mails, 15, service.told)
        assert f"[{friend.address}]" in mails[0]
