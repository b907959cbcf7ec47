"""The operator frozen, cut off from the sidecars, cut off from the API server, blind, without rights: mail flows on all the while.

One operator on a machine of its own (as far as the network goes), one sidecar and one sender of mail for all faults, one after the other.
Each fault meets a policy change, which is enforced once the fault is over. `test_outages` has those where a process ends.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from harness.chart import operator_rights
from harness.cluster import ApiServer
from harness.mail_attempt import ENFORCED_WITHIN, first_reply, hears
from harness.mail_flow import MailFlow
from harness.mail_sink import MailSink
from harness.operator_apart import OperatorApart
from harness.operator_fixtures import alone
from harness.polling import poll
from harness.screening_objects import mail_pod, policy, rejecting, wait_for_reasons
from harness.sidecar_process import SidecarProcess

KEEPALIVE = 10.0
"""Seconds of silence until the sidecar asks whether the operator is there: the shortest. It waits a third of that for an answer."""

NOTICED_WITHIN = 20.0
"""Seconds until a dead connection to the operator is noticed: after one ping, which falls due in the midst of another wait."""

BACK_WITHIN = 30.0
"""Seconds until a stream that was lost is made again, by waits that double."""

CHECKED_WITHIN = 20.0
"""Seconds until the operator's own check tells what its watch does not: every 10 s, by connections that may be dead for 4 s."""

NAMESPACE = "test-faults"


@dataclass
class Scene:
    """flow: mail that never stops, through `sidecar`; `other` is there to be restarted. Every fault rejects one network more."""

    api_server: ApiServer
    operator: OperatorApart
    sidecar: SidecarProcess
    other: SidecarProcess
    flow: MailFlow
    start: Callable[..., SidecarProcess]
    networks: Iterator[int] = field(default_factory=lambda: count(60))
    rejected: list[str] = field(default_factory=list)

    def change(self) -> str:
        """Reject one more network. A client in there."""
        number = next(self.networks)
        self.rejected.append(f"127.{number}.0.0/16")
        self.api_server.apply(policy("wall", NAMESPACE, **rejecting(*self.rejected)))
        return f"127.{number}.1.1"

    def hears(self, client: str, begins: str, within: float = ENFORCED_WITHIN) -> None:
        """Raises TimeoutError, with the ends of both logs."""
        try:
            hears(self.sidecar, client, begins, within)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.operator.log()}") from error

    def undisturbed(self) -> None:
        """Mail flowed all the time and flows still."""
        self.flow.wait_for(5)
        assert self.flow.refused() == []


@pytest.fixture(scope="module")
def running(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """All processes, and mail that flows."""
    with alone(), ExitStack() as stack:
        operator = stack.enter_context(OperatorApart(api_server))
        sink = stack.enter_context(MailSink())
        api_server.create_namespace(NAMESPACE)

        def start(pod: str, *options: str, namespace: str = NAMESPACE) -> SidecarProcess:
            directory: Path = tmp_path_factory.mktemp(pod)
            token = api_server.bound_token(mail_pod(api_server, namespace, pod))
            settings = {"upstream": sink.address, "operator": operator, "token": token}
            options = (f"--control-keepalive={KEEPALIVE:.0f}s", *options)
            return stack.enter_context(SidecarProcess(directory, options=options, **settings))  # type: ignore[arg-type]  # by name

        sidecar = start("mta-0")
        flow = stack.enter_context(MailFlow(sidecar))
        yield Scene(api_server, operator, sidecar, start("mta-1"), flow, start)


@pytest.fixture
def scene(running: Scene) -> Iterator[Scene]:
    """One policy is enforced before the fault, mail was not disturbed after it, and the status is true."""
    running.hears(running.change(), "521", BACK_WITHIN)
    yield running
    running.undisturbed()
    wait_for_reasons(running.api_server, "wall", NAMESPACE, within=BACK_WITHIN, Programmed="True/Synced")


def loses_the_stream(scene: Scene) -> None:
    """Wait until the sidecar knows."""
    before = scene.sidecar.log().count("no stream to the operator")
    poll(
        lambda: scene.sidecar.log().count("no stream to the operator") > before,
        NOTICED_WITHIN,
        lambda: f"the sidecar did not notice:\n{scene.sidecar.said()}",
    )


def test_operator_that_is_frozen(scene: Scene) -> None:
    known = scene.rejected[-1].replace("0.0/16", "1.1")
    with scene.operator.frozen():
        zombie = scene.change()
        with pytest.raises(OSError):
            scene.operator.probe("/healthz")
        loses_the_stream(scene)
        assert first_reply(scene.sidecar.address, known).startswith("521")
        assert first_reply(scene.sidecar.address, zombie).startswith("220")
    scene.hears(zombie, "521", BACK_WITHIN)
    assert scene.operator.probe("/healthz") == 200


def test_operator_that_no_packet_reaches(scene: Scene) -> None:
    known = scene.rejected[-1].replace("0.0/16", "1.1")
    with scene.operator.partitioned():
        zombie = scene.change()
        loses_the_stream(scene)
        scene.other.restart()
        for sidecar in (scene.sidecar, scene.other):
            assert first_reply(sidecar.address, known).startswith("521")
            assert first_reply(sidecar.address, zombie).startswith("220")
    scene.hears(zombie, "521", BACK_WITHIN)
    hears(scene.other, zombie, "521", BACK_WITHIN)


def test_api_server_that_no_packet_of_the_operator_reaches(scene: Scene) -> None:
    known = scene.rejected[-1].replace("0.0/16", "1.1")
    scene.operator.api.shut()
    zombie = scene.change()
    # The operator ends too, and another starts that knows nothing: it serves nobody, and is alive.
    scene.operator.process.kill()
    scene.operator.launch()
    poll(lambda: answers(scene, "/healthz", 200), 10.0, scene.operator.log)
    assert scene.operator.probe("/readyz") == 503
    scene.other.restart()
    for sidecar in (scene.sidecar, scene.other):
        assert first_reply(sidecar.address, known).startswith("521")
    scene.operator.api.open()
    scene.hears(zombie, "521", BACK_WITHIN)
    poll(lambda: answers(scene, "/readyz", 200), BACK_WITHIN, scene.operator.log)


def answers(scene: Scene, path: str, status: int) -> bool:
    try:
        return scene.operator.probe(path) == status
    except OSError:
        return False


def test_watch_that_is_open_and_silent(scene: Scene) -> None:
    scene.operator.api.kill_silently()
    scene.hears(scene.change(), "521", CHECKED_WITHIN)
    poll(
        lambda: "the watch of the cluster begins anew" in scene.operator.whole_log(),
        CHECKED_WITHIN,
        scene.operator.log,
    )
    scene.hears(scene.change(), "521", CHECKED_WITHIN)
    scene.hears(scene.change(), "521")


def test_operator_that_may_read_nothing_for_a_while(scene: Scene) -> None:
    streams = scene.operator.whole_log().count("is here")
    scene.api_server.kubectl("delete", "clusterrolebinding", "postwarden-operator")
    scene.operator.api.cut()
    poll(lambda: "is forbidden" in scene.operator.whole_log(), CHECKED_WITHIN, scene.operator.log)
    zombie = scene.change()
    scene.flow.wait_for(10)
    assert scene.operator.process.alive()
    assert scene.operator.probe("/healthz") == scene.operator.probe("/readyz") == 200
    scene.api_server.apply(operator_rights())
    scene.hears(zombie, "521", CHECKED_WITHIN)
    scene.hears(scene.change(), "521", CHECKED_WITHIN)
    assert scene.operator.whole_log().count("is here") == streams, "no stream was lost by it"


def test_sidecar_that_never_had_rules_does_what_it_was_started_with(scene: Scene) -> None:
    with scene.operator.away():
        passing = scene.start("mta-2")
        deferring = scene.start("mta-3", "--without-rules=defer")
        zombie = scene.rejected[-1].replace("0.0/16", "1.1")
        assert first_reply(passing.address, zombie).startswith("220")
        assert first_reply(deferring.address, zombie).startswith("421")
    for sidecar in (passing, deferring):
        hears(sidecar, zombie, "521", BACK_WITHIN)
