"""The operator on files, with a real gRPC client as the sidecar."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc
from postwarden_operator.files.operator import (
    Applied,
    Conflicted,
    FilesEvent,
    FilesOperator,
    NothingUsable,
    Problem,
    Selected,
    Served,
)

TIMEOUT = 10.0
"""Seconds for anything to happen; milliseconds are usual."""

POLL_INTERVAL = 0.02
"""Seconds: a tenth of the usual, for an edit costs a test two of them."""


def policy(name: str = "wall", mode: str = "Enforce", access: str = "{}", namespace: str = "default") -> str:
    return f"""\
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: nobody-has-this}}}}
  mode: {mode}
  access: {access}
"""


def config_map(networks: str) -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: lists}}\ndata:\n  bad: {networks}\n"


LISTED = "{rules: [{action: Reject, listFrom: {configMapKeyRef: {name: lists, key: bad}}}]}"
HOST_BITS = "{rules: [{action: Reject, cidrs: [10.0.0.1/8]}]}"


def replace(path: Path, text: str) -> None:
    """As editors do: a new file, renamed over the old."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(text)
    fresh.replace(path)


def remove(path: Path) -> None:
    path.unlink()


class Events:
    """What was reported; a test can wait for more."""

    def __init__(self) -> None:
        self.all: list[FilesEvent] = []
        self._more = asyncio.Event()

    def report(self, event: FilesEvent) -> None:
        self.all.append(event)
        self._more.set()

    async def until(self, predicate: Callable[[FilesEvent], bool]) -> FilesEvent:
        async with asyncio.timeout(TIMEOUT):
            while not (found := [event for event in self.all if predicate(event)]):
                self._more.clear()
                await self._more.wait()
            return found[-1]

    def problems(self) -> list[str]:
        return [event.text for event in self.all if isinstance(event, Problem)]


class Sidecar:
    """The other end of the stream: acknowledges what it is told to."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        stub = pb_grpc.ScreeningControlStub(channel)
        self.call = stub.Subscribe(metadata=(("authorization", f"Bearer {token}"),))

    async def hello(self) -> None:
        await self.call.write(pb.SidecarMessage(hello=pb.Hello(complete=True)))

    async def receive(self) -> pb.ControlMessage:
        message = await asyncio.wait_for(self.call.read(), TIMEOUT)
        assert isinstance(message, pb.ControlMessage)
        return message

    async def apply(self) -> pb.Snapshot:
        snapshot = (await self.receive()).snapshot
        assert snapshot.version
        ack = pb.Ack(nonce=snapshot.nonce, version=snapshot.version)
        await self.call.write(pb.SidecarMessage(ack=ack))
        return snapshot


@asynccontextmanager
async def running(*paths: Path) -> AsyncIterator[tuple[Events, Sidecar, Served]]:
    events = Events()
    operator = FilesOperator(paths, report=events.report, poll_interval=POLL_INTERVAL)
    operator.load()
    served = await operator.start()
    try:
        async with grpc.aio.insecure_channel(served.address) as channel:
            sidecar = Sidecar(channel, served.token)
            await sidecar.hello()
            yield events, sidecar, served
    finally:
        await operator.stop()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(policy())
    return path


async def test_policy_is_selected_pushed_and_reported_as_applied_when_acknowledged(file: Path) -> None:
    async with running(file) as (events, sidecar, _):
        snapshot = await sidecar.apply()
        applied = await events.until(lambda event: isinstance(event, Applied))
        assert applied == Applied("default", "wall", snapshot.version)
        assert events.all == [Selected("default", "wall", snapshot.version), applied]


async def test_nothing_is_reported_as_applied_before_the_sidecar_says_so(file: Path) -> None:
    async with running(file) as (events, sidecar, _):
        await sidecar.receive()
        assert not [event for event in events.all if isinstance(event, Applied)]


async def test_edit_is_pushed_and_reported(file: Path) -> None:
    async with running(file) as (events, sidecar, _):
        first = await sidecar.apply()
        replace(file, policy(mode="Observe"))
        second = await sidecar.apply()
        assert second.rules.mode == pb.MODE_OBSERVE
        assert second.version != first.version
        await events.until(lambda event: event == Applied("default", "wall", second.version))


async def test_changed_list_in_another_file_of_a_folder_is_pushed(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(policy(access=LISTED))
    (tmp_path / "lists.yml").write_text(config_map("192.0.2.0/24"))
    (tmp_path / "notes.txt").write_text("no YAML: {")
    async with running(tmp_path) as (_, sidecar, _served):
        first = await sidecar.apply()
        replace(tmp_path / "lists.yml", config_map("198.51.100.0/24"))
        assert (await sidecar.apply()).revision != first.revision


async def test_config_map_volume_that_swaps_its_link_is_read_anew(tmp_path: Path) -> None:
    for version, mode in (("v1", "Enforce"), ("v2", "Observe")):
        (tmp_path / "volume" / f"..{version}").mkdir(parents=True)
        (tmp_path / "volume" / f"..{version}" / "policy.yaml").write_text(policy(mode=mode))
    (tmp_path / "volume" / "..data").symlink_to("..v1")
    (tmp_path / "volume" / "policy.yaml").symlink_to("..data/policy.yaml")
    async with running(tmp_path / "volume") as (_, sidecar, _served):
        await sidecar.apply()
        (tmp_path / "new").symlink_to("..v2")
        (tmp_path / "new").replace(tmp_path / "volume" / "..data")
        assert (await sidecar.apply()).rules.mode == pb.MODE_OBSERVE


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: b\n c: d\n", "is not YAML"),
        ("", "no ScreeningPolicy in there"),
        (policy(mode="Sometimes"), "policy.yaml:6: ScreeningPolicy default/wall: spec.mode"),
        (policy(access=HOST_BITS), "spec.access.rules[0].cidrs[0]: 10.0.0.1/8"),
        (policy(access="{rule: []}"), "spec.access.rule: "),
        (policy(access=LISTED), "ConfigMap lists"),
        (policy() + "---\n" + policy(mode="Observe"), "is in"),
    ],
)
async def test_bad_edit_changes_nothing_and_is_reported_once(file: Path, text: str, problem: str) -> None:
    async with running(file) as (events, sidecar, _):
        first = await sidecar.apply()
        replace(file, text)
        await events.until(lambda event: isinstance(event, Problem))
        assert problem in events.problems()[0]
        replace(file, policy(mode="Observe"))
        messages = [await sidecar.receive()]
        if messages[0].HasField("hold"):
            messages.append(await sidecar.receive())
        assert messages[-1].snapshot.rules.mode == pb.MODE_OBSERVE
        assert messages[-1].snapshot.version != first.version
        assert len(events.problems()) == 1


async def test_problem_that_lasts_is_reported_once(file: Path) -> None:
    beside = file.with_name("beside.yaml")
    beside.write_text(policy("z", mode="Sometimes"))
    async with running(file, beside) as (events, sidecar, _):
        await sidecar.apply()
        for mode in ("Observe", "Enforce"):
            replace(file, policy(mode=mode))
            await sidecar.apply()
        assert len(events.problems()) == 1


async def test_problem_that_comes_back_is_reported_again(file: Path) -> None:
    async with running(file) as (events, sidecar, _):
        await sidecar.apply()
        for mode in ("Observe", "Enforce"):
            replace(file, policy(mode="Sometimes"))
            assert (await sidecar.receive()).HasField("hold")
            replace(file, policy(mode=mode))
            await sidecar.apply()
        assert len(events.problems()) == 2


async def test_deleted_file_leaves_what_is_in_force_and_is_reported(file: Path) -> None:
    async with running(file) as (events, sidecar, _):
        await sidecar.apply()
        remove(file)
        problem = await events.until(lambda event: isinstance(event, Problem))
        assert "policy.yaml: can't be read: No such file" in str(problem)
        replace(file, policy(mode="Observe"))
        assert (await sidecar.receive()).snapshot.rules.mode == pb.MODE_OBSERVE


async def test_first_policy_by_namespace_and_name_is_in_force_and_the_others_conflicted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "policies.yaml"
    names = [("z", "alpha"), ("mail", "b"), ("mail", "a")]
    path.write_text("---\n".join(policy(name, namespace=namespace) for namespace, name in names))
    async with running(path) as (events, sidecar, _):
        snapshot = await sidecar.apply()
        assert (snapshot.namespace, snapshot.name) == ("mail", "a")
        conflicts = [event for event in events.all if isinstance(event, Conflicted)]
        assert conflicts == [Conflicted("mail", "b", "mail/a"), Conflicted("z", "alpha", "mail/a")]


async def test_refusal_of_the_sidecar_is_a_problem(file: Path) -> None:
    async with running(file) as (events, sidecar, _):
        snapshot = (await sidecar.receive()).snapshot
        nack = pb.Nack(nonce=snapshot.nonce, reason="unknown feature x")
        await sidecar.call.write(pb.SidecarMessage(nack=nack))
        problem = await events.until(lambda event: isinstance(event, Problem))
        assert problem == Problem(
            f"the sidecar refuses default/wall, version {snapshot.version}: unknown feature x"
        )


async def test_rules_are_applied_though_the_hand_off_is_not_proved(file: Path) -> None:
    async with running(file) as (events, sidecar, _):
        report = pb.HandoffReport(state=pb.HANDOFF_STATE_UNPROVED, detail="the MTA is down")
        await sidecar.call.write(pb.SidecarMessage(handoff=report))
        snapshot = await sidecar.apply()
        await events.until(lambda event: event == Applied("default", "wall", snapshot.version))
        assert events.problems() == []


async def test_only_the_token_of_this_run_is_served_and_only_this_user_reaches_the_socket(file: Path) -> None:
    async with running(file) as (_, _sidecar, served):
        socket = Path(served.address.removeprefix("unix:"))
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        async with grpc.aio.insecure_channel(served.address) as channel:
            stranger = Sidecar(channel, "another-token")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await asyncio.wait_for(stranger.call.read(), TIMEOUT)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not socket.parent.exists()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            policy(access=HOST_BITS),
            "policy.yaml:7: ScreeningPolicy default/wall: spec.access.rules[0].cidrs[0]: ",
        ),
        (policy(access=LISTED), "policy.yaml:7: ScreeningPolicy default/wall: spec.access.rules[0].listFrom"),
        ("kind: Deployment\napiVersion: apps/v1\n", "policy.yaml:1: document 1: kind: Deployment"),
        (": :\n", "policy.yaml:1: "),
        ("\xff", "policy.yaml: "),
    ],
)
def test_first_load_of_what_is_not_usable_says_where(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(NothingUsable) as nothing:
        FilesOperator([path], report=lambda event: None).load()
    assert nothing.value.errors[0].startswith(f"{tmp_path}/{error}")


def test_missing_file_and_empty_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingUsable) as nothing:
        FilesOperator([tmp_path / "absent.yaml", tmp_path / "empty"], report=lambda event: None).load()
    assert sorted(error.removeprefix(f"{tmp_path}/").split(":")[0] for error in nothing.value.errors) == [
        "absent.yaml",
        "empty",
    ]


def test_bad_policy_beside_the_first_does_not_prevent_the_start(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(policy("a") + "---\n" + policy("b", mode="Sometimes"))
    assert FilesOperator([path], report=lambda event: None).load().name == "a"


def large(last: str) -> str:
    """A list that is not compiled in the loop, and what comes at its end."""
    networks = "".join(f"    10.{number >> 8}.{number & 255}.0/24\n" for number in range(6000))
    return policy(access=LISTED) + "---\n" + config_map(f"|\n{networks}    {last}")


async def test_edit_of_a_large_list_is_pushed_and_a_bad_one_is_told_once_with_its_line(file: Path) -> None:
    replace(file, large("192.0.2.1"))
    async with running(file) as (events, sidecar, _):
        first = await sidecar.apply()
        replace(file, large("10.0.0.1/8"))
        await events.until(lambda event: isinstance(event, Problem))
        replace(file, large("192.0.2.2"))
        assert "line 6001: 10.0.0.1/8 has host bits set" in (await sidecar.receive()).hold.reason
        assert (await sidecar.receive()).snapshot.version != first.version
        (problem,) = events.problems()
        assert "ConfigMap lists, key bad, line 6001: 10.0.0.1/8 has host bits set" in problem
