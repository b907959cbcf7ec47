"""Operator and sidecar of different releases: each order of upgrades, a downgrade, and a policy that only a newer sidecar understands.

Sidecars change only when the pods of mail servers restart, so an operator meets older ones for as long as those run.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.cluster import ApiServer
from harness.mail_attempt import first_reply, hears
from harness.mail_flow import MailFlow
from harness.mail_sink import MailSink
from harness.operator_fixtures import alone
from harness.operator_process import OperatorProcess
from harness.screening_objects import conditions, mail_pod, policy, wait_for_reasons
from harness.sidecar_process import SidecarProcess

BACK_WITHIN = 30.0
"""Seconds until a stream that was lost is made again, by waits that double."""

NAMESPACE = "test-versions"

NEWER_OPERATOR = f"""#!{sys.executable}
# The operator of this tree, as a later release might be: what it sends for mode Observe needs a feature that nobody has.
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_operator.cli import main
from postwarden_operator.controlplane.subscription import Subscription

next_message = Subscription.next_message


def newer(subscription, nonce):
    message = next_message(subscription, nonce)
    if message is not None and message.snapshot.rules.mode == pb.MODE_OBSERVE:
        message.snapshot.required_features.append("from-the-future")
    return message


Subscription.next_message = newer
main()
"""


@dataclass
class Scene:
    """sidecars: of both releases. operator: changes its release by `operated_by`. older, newer: the operator's programs."""

    api_server: ApiServer
    operator: OperatorProcess
    older: Path
    newer: Path
    sidecars: dict[str, SidecarProcess]
    flows: list[MailFlow]

    def operated_by(self, program: Path) -> None:
        with self.operator.away():
            self.operator.program = program

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Mail flows through both sidecars all the time, and the last rules stay in force."""
        yield
        for flow in self.flows:
            flow.wait_for(3)
            assert flow.refused() == []

    def reject(self, network: int, **spec: object) -> None:
        """Both sidecars soon reject that network alone, and the status says so."""
        self.apply(network, **spec)
        for sidecar in self.sidecars.values():
            self.hears(sidecar, network, "521")
            self.hears(sidecar, 59, "220")
        wait_for_reasons(self.api_server, "wall", NAMESPACE, within=BACK_WITHIN, Programmed="True/Synced")

    def apply(self, network: int, **spec: object) -> None:
        rule = {"action": "Reject", "cidrs": [f"127.{network}.0.0/16"]}
        access = {"myNetworks": [], "rejectAction": "Drop", "rules": [rule]}
        self.api_server.apply(policy("wall", NAMESPACE, access=access, pregreet={"banner": ""}, **spec))

    def refusal(self) -> str:
        """What the status says of sidecars that refuse."""
        wait_for_reasons(self.api_server, "wall", NAMESPACE, within=BACK_WITHIN, Programmed="False/Rejected")
        return str(conditions(self.api_server, "wall", NAMESPACE)["Programmed"]["message"])

    def hears(self, sidecar: SidecarProcess, network: int, begins: str) -> None:
        hears(sidecar, f"127.{network}.1.1", begins, BACK_WITHIN)


@pytest.fixture(scope="module")
def scene(
    api_server: ApiServer, older_programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """Begins with an older operator."""
    api_server.create_namespace(NAMESPACE)
    with alone(), ExitStack() as stack:
        operator = OperatorProcess(api_server)
        newer, operator.program = operator.program, older_programs / "postwarden-operator"
        stack.enter_context(operator)
        sink = stack.enter_context(MailSink())
        programs = {
            "older": older_programs / "postwarden-sidecar",
            "newer": newer.with_name("postwarden-sidecar"),
        }
        sidecars = {}
        for name, program in programs.items():
            token = api_server.bound_token(mail_pod(api_server, NAMESPACE, name, container="postwarden"))
            sidecars[name] = stack.enter_context(
                SidecarProcess(
                    tmp_path_factory.mktemp(name),
                    upstream=sink.address,
                    operator=operator,
                    token=token,
                    program=program,
                )
            )
        flows = [stack.enter_context(MailFlow(sidecar)) for sidecar in sidecars.values()]
        yield Scene(api_server, operator, older_programs / "postwarden-operator", newer, sidecars, flows)


def test_operator_is_upgraded_and_downgraded_under_sidecars_of_both_releases(scene: Scene) -> None:
    with scene.undisturbed():
        scene.reject(60)
        scene.operated_by(scene.newer)
        for sidecar in scene.sidecars.values():
            assert first_reply(sidecar.address, "127.60.1.1").startswith("521")
        scene.reject(61)
        scene.operated_by(scene.older)
        scene.reject(62)


def test_feature_that_an_older_sidecar_lacks_is_refused_there_and_used_elsewhere(scene: Scene) -> None:
    older, newer = scene.sidecars["older"], scene.sidecars["newer"]
    with scene.undisturbed():
        scene.operated_by(scene.newer)
        # An older sidecar would turn away mail for the postmaster if it took these rules without the exemption.
        scene.apply(63, exemptions={"recipients": ["postmaster@"]})
        scene.hears(newer, 63, "521")
        assert scene.refusal() == "older: the rules need features that this sidecar lacks: exemptions"
        assert first_reply(older.address, "127.62.1.1").startswith("521")
        assert first_reply(older.address, "127.63.1.1").startswith("220")


def test_policy_that_needs_a_newer_sidecar_is_refused_and_told_and_the_last_one_stays(
    scene: Scene, tmp_path: Path
) -> None:
    later = tmp_path / "postwarden-operator"
    later.write_text(NEWER_OPERATOR)
    later.chmod(0o755)
    with scene.undisturbed():
        scene.operated_by(later)
        scene.reject(64)
        scene.apply(65, mode="Observe")
        message = scene.refusal()
        assert "the rules need features that this sidecar lacks: from-the-future" in message
        for name, sidecar in scene.sidecars.items():
            assert name in message
            assert first_reply(sidecar.address, "127.64.1.1").startswith("521")
        scene.reject(66)
