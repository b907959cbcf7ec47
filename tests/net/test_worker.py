"""The worker process itself, started as the supervisor starts it, with the test in the supervisor's place."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from types import TracebackType

import pytest
from net.bench import TIMEOUT, Client, make_rules
from net.handover_scripts import HELLO, MAIL, RCPT, Steps, ask, deep_rules, greet, taken
from net.scripted_mta import ScriptedMta, serve_mail
from postwarden_sidecar.engine.alike import all_whole
from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.ipc.channel import Channel, Message
from postwarden_sidecar.ipc.messages import (
    Applied,
    Drain,
    EhloLearned,
    NoRules,
    PassAnswer,
    PassQuery,
    PassStored,
    Ready,
    RulesInForce,
    UpstreamFault,
    UpstreamInForce,
)
from postwarden_sidecar.ipc.page import CELLS, HEARTBEAT, Page, connections
from postwarden_sidecar.ipc.pair import make_pair
from postwarden_sidecar.ipc.records import receive_batch
from postwarden_sidecar.net.listener import listen
from postwarden_sidecar.rules.image import encode
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import AccessAction, Action, Rules
from postwarden_sidecar.worker.worker import RECORDS_PACE

TEASER = b"220-mx.example ESMTP\r\n"
GREETING = b"220 mta.example ESMTP\r\n"
LISTED = AddressTable.from_networks([("127.0.0.0/8", AccessAction.REJECT, 1)])
DROP = make_rules(listed=LISTED, reject=Action.DROP)


class Supervised:
    """A running worker. Use as a context manager; its end kills what is left."""

    def __init__(self) -> None:
        (self.listener,) = listen("127.0.0.1", 0, 1)
        self.address: tuple[str, int] = self.listener.getsockname()
        self.page = Page.create()
        near, control = make_pair()
        self._records_end, records = make_pair()
        self.channel = Channel(near)
        passed = (self.listener.fileno(), control.fileno(), records.fileno(), self.page.descriptor)
        arguments = [
            "--index=0",
            *(
                f"--{name}={fd}"
                for name, fd in zip(("listener", "control", "records", "page"), passed, strict=True)
            ),
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "postwarden_sidecar.worker", *arguments], pass_fds=passed
        )
        control.close()
        records.close()
        self._records: list[Record] = []
        self.batches = 0  # of records

    def __enter__(self) -> Supervised:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self.channel.close()
        self._records_end.close()
        self.listener.close()
        self.page.close()
        os.close(self.page.descriptor)

    def receive(self) -> Message:
        """The worker's next message."""
        deadline = time.monotonic() + TIMEOUT
        while (received := self.channel.receive()) is None:
            readable, _, _ = select.select([self.channel.fileno()], [], [], deadline - time.monotonic())
            assert readable, "the worker says nothing"
        return received[0]

    def send_rules(self, serial: int, rules: Rules) -> None:
        self.send_image(serial, encode(rules))

    def send_image(self, serial: int, image: bytes) -> None:
        memory = os.memfd_create("rules")
        os.write(memory, image)
        self.channel.send(RulesInForce(serial), [memory])
        os.close(memory)

    def put_in_force(self, rules: Rules | None, target: str, handoff: str = "Plain") -> None:
        """Rules and upstream, up to Ready."""
        if rules is None:
            self.channel.send(NoRules(1, defer=False))
        else:
            self.send_rules(1, rules)
        assert self.receive() == Applied(1, "")
        self.channel.send(UpstreamInForce(target, handoff, True, "", "mx.example ESMTP", ("SIZE",)))
        assert self.receive() == Ready(self.process.pid)

    def records(self, count: int) -> list[Record]:
        while len(self._records) < count:
            assert select.select([self._records_end], [], [], TIMEOUT)[0], "no record comes"
            self._records += all_whole(receive_batch(self._records_end) or [])
            self.batches += 1
        return self._records

    def connect(self) -> Client:
        return Client(self.address)

    def wait(self) -> int:
        return self.process.wait(TIMEOUT)


def test_it_accepts_only_when_it_knows_rules_and_upstream() -> None:
    with ScriptedMta(serve_mail) as mta, Supervised() as worker, worker.connect() as client:
        worker.channel.send(UpstreamInForce(mta.target, "Plain", True, "", "", None))
        worker.channel.send(NoRules(7, defer=False))
        assert worker.receive() == Applied(7, "")
        assert worker.receive() == Ready(worker.process.pid)
        assert client.hear_reply() == GREETING, "who came before waited in the queue"
        client.say(b"QUIT\r\n")
        client.hear_all()
        client.end()
        (record,) = worker.records(1)
        assert record.verdict == "unscreened"
        assert worker.page.total(connections(record.verdict)) == 1
        assert time.monotonic() - worker.page.slot(0)[CELLS[HEARTBEAT]] / 1000 < 5


def test_records_of_many_clients_come_in_few_batches() -> None:
    with Supervised() as worker:
        worker.put_in_force(DROP, "")
        began = time.monotonic()
        for _ in range(300):
            with worker.connect() as client:
                client.hear_all()
        assert {record.verdict for record in worker.records(300)} == {Verdict.DROPPED}
        assert worker.batches <= 2 + 4 + (time.monotonic() - began) / RECORDS_PACE  # 4: 300 of 400 bytes


def test_passes_are_asked_for_kept_and_stored() -> None:
    with ScriptedMta(serve_mail) as mta, Supervised() as worker:
        worker.put_in_force(make_rules(), mta.target)
        with worker.connect() as client:
            assert client.hear_line() == TEASER, "a question that is not answered in time is answered with no"
            assert client.hear_line() == GREETING
            queries = [worker.receive(), worker.receive()]
            assert [(type(query), query.keys) for query in queries if isinstance(query, PassQuery)] == [
                (PassQuery, ("127.0.0.1",))
            ] * 2
            stored = worker.receive()
            assert isinstance(stored, PassStored)
            assert stored.expiries["pregreet"] == pytest.approx(time.time() + 3600, abs=10)
        with worker.connect() as client:
            assert client.hear_line() == GREETING, "its own memory knows"


def test_an_answer_of_the_supervisor_counts() -> None:
    with ScriptedMta(serve_mail) as mta, Supervised() as worker:
        worker.put_in_force(make_rules(wait=0.3), mta.target)
        # The answer has 5 ms, and this machine may be busy: one of several clients gets it in time.
        for _ in range(20):
            with worker.connect() as client:
                while not isinstance(query := worker.receive(), PassQuery):
                    pass
                worker.channel.send(PassAnswer(query.query, {"127.0.0.1": {"pregreet": time.time() + 60}}))
                if client.hear_line() == GREETING:
                    return
        pytest.fail("no answer counted")


def test_a_bad_image_changes_nothing() -> None:
    with Supervised() as worker:
        worker.put_in_force(DROP, "127.0.0.1:1")
        worker.send_image(2, b"no image of rules" * 10)
        applied = worker.receive()
        assert isinstance(applied, Applied)
        assert (applied.serial, applied.error != "") == (2, True)
        worker.channel.send(RulesInForce(3))
        applied = worker.receive()
        assert isinstance(applied, Applied)
        assert "descriptors" in applied.error
        with worker.connect() as client:
            assert client.hear_all().startswith(b"521 ")


def test_sessions_in_progress_survive_a_hundred_pushes() -> None:
    with ScriptedMta(serve_mail) as mta, Supervised() as worker:
        worker.put_in_force(make_rules(wait=0.5), mta.target)
        with worker.connect() as relayed, worker.connect() as talker:
            assert talker.hear_line() == TEASER
            talker.say(b"EHLO talker\r\n")
            assert talker.hear_reply().startswith(b"250-mx.example")
            assert relayed.hear_line() == TEASER
            assert relayed.hear_line() == GREETING
            with worker.connect() as silent:
                greeting = silent.hear_line()  # by the first one's pass; it is in no one's way
                assert greeting == GREETING
                for serial in range(2, 102):
                    worker.send_rules(serial, DROP)
                    while not isinstance(applied := worker.receive(), Applied):
                        pass
                    assert applied == Applied(serial, "")
                for client in (relayed, silent):
                    client.say(b"EHLO client.example\r\n")
                    assert client.hear_reply().startswith(b"250-mta.example")
                talker.say(b"QUIT\r\n")
                assert talker.hear_all().startswith(b"221 ")
        with worker.connect() as later:
            assert later.hear_all().startswith(b"521 ")


def test_what_a_replay_learned_is_offered_to_the_next_client() -> None:
    with ScriptedMta(taken()) as mta, Supervised() as worker:
        worker.put_in_force(deep_rules(), mta.target)
        with worker.connect() as client:
            greet(client)
            ask(client, MAIL)
            assert ask(client, RCPT) == b"250 2.1.5 first\r\n"
        with socket.create_connection(worker.address, TIMEOUT, source_address=("127.0.0.2", 0)) as other:
            said = other.makefile("rb")
            assert said.readline().startswith(b"220-")
            assert said.readline().startswith(b"220 ")
            other.sendall(HELLO)
            lines = [said.readline()[4:] for _ in range(4)]
            said.close()
        assert lines == [b"mx.example\r\n", b"SIZE 1000\r\n", b"CHUNKING\r\n", b"STARTTLS\r\n"]
        while not isinstance(told := worker.receive(), EhloLearned):
            assert isinstance(told, PassQuery | PassStored)
        assert told == EhloLearned(mta.target, "Plain", ("SIZE 1000", "CHUNKING", "STARTTLS"))


def test_what_the_mta_does_not_offer_to_a_client_is_not_promised_to_its_prefix_again() -> None:
    """Others are offered it, as the supervisor learns from their sessions."""
    rules = deep_rules()
    rules = replace(rules, limits=replace(rules.limits, prefix_ipv4=24))
    with ScriptedMta(Steps((HELLO, b"250-mta.example\r\n250 SIZE 1000\r\n"))) as mta, Supervised() as worker:
        worker.put_in_force(rules, mta.target)
        offers = UpstreamInForce(mta.target, "Plain", True, "", "mx.example ESMTP", ("SIZE 1000", "CHUNKING"))
        worker.channel.send(offers)
        assert offered(worker, "127.0.0.1", MAIL, RCPT) == [b"SIZE 1000", b"CHUNKING"]
        worker.channel.send(offers)
        assert offered(worker, "127.0.0.2") == [b"SIZE 1000"]
        assert offered(worker, "127.0.1.1") == [b"SIZE 1000", b"CHUNKING"]


def offered(worker: Supervised, source: str, *commands: bytes) -> list[bytes]:
    """What a client is offered; each recipient is answered 450."""
    with socket.create_connection(worker.address, TIMEOUT, source_address=(source, 0)) as client:
        said = client.makefile("rb")
        while not said.readline().startswith(b"220 "):
            pass
        client.sendall(HELLO)
        lines = [said.readline()]
        while lines[-1].startswith(b"250-"):
            lines.append(said.readline())
        for command in commands:
            client.sendall(command)
            assert said.readline().startswith(b"250 " if command is MAIL else b"450 4.3.0 ")
        said.close()
    return [line[4:-2] for line in lines[1:]]


def test_a_wrong_answer_is_told_to_the_supervisor() -> None:
    with (
        ScriptedMta(lambda conversation: conversation.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as mta,
        Supervised() as worker,
    ):
        worker.put_in_force(None, mta.target, "ProxyV1")
        with worker.connect() as client:
            assert client.hear_all().startswith(b"421 4.3.2 ")
        fault = worker.receive()
        assert isinstance(fault, UpstreamFault)
        assert (fault.outcome, fault.target, fault.handoff) == ("wrong_answer", mta.target, "ProxyV1")
        worker.channel.send(UpstreamInForce(mta.target, "ProxyV1", False, "no longer proved", "", None))
        worker.channel.send(NoRules(2, defer=False))
        assert worker.receive() == Applied(2, "")
        with worker.connect() as client:
            assert client.hear_all().startswith(b"421 4.3.2 ")
        assert len(mta.conversations) == 1


def test_an_upstream_that_is_no_target_turns_clients_away() -> None:
    with Supervised() as worker:
        worker.put_in_force(None, "unix:", "Plain")
        with worker.connect() as client:
            assert client.hear_all().startswith(b"421 4.3.2 ")


def test_drain_lets_relays_end_then_it_exits() -> None:
    with ScriptedMta(serve_mail) as mta, Supervised() as worker:
        worker.put_in_force(None, mta.target)
        with worker.connect() as relayed:
            assert relayed.hear_line() == GREETING
            relayed.say(b"EHLO client.example\r\n")
            relayed.hear_reply()
            worker.channel.send(Drain(10.0))
            with worker.connect() as newcomer:
                while not (said := newcomer.hear_all()).startswith(b"421 4.3.2 "):
                    pytest.fail(f"a new client is told {said!r}")
            relayed.say(b"QUIT\r\n")
            assert relayed.hear_all().startswith(b"221 ")
        assert worker.wait() == 0


def test_a_second_drain_ends_it_at_once() -> None:
    with ScriptedMta(serve_mail) as mta, Supervised() as worker:
        worker.put_in_force(None, mta.target)
        with worker.connect() as relayed:
            assert relayed.hear_line() == GREETING
            worker.channel.send(Drain(60.0))
            worker.channel.send(Drain(0.0))
            assert worker.wait() == 0


@pytest.mark.parametrize("how", ["end of the pair", "SIGTERM"])
def test_without_its_supervisor_it_drains_and_exits(how: str) -> None:
    with ScriptedMta(serve_mail) as mta, Supervised() as worker:
        worker.put_in_force(None, mta.target)
        with worker.connect() as relayed:
            assert relayed.hear_line() == GREETING
            relayed.say(b"EHLO client.example\r\n")
            relayed.hear_reply()
            if how == "SIGTERM":
                worker.process.send_signal(signal.SIGTERM)
            else:
                worker.channel.close()
            relayed.say(b"QUIT\r\n")
            assert relayed.hear_all().startswith(b"221 ")
        assert worker.wait() == 0


def test_it_dies_with_its_supervisor_even_if_the_pair_stays_open() -> None:
    """A process that starts a worker and is killed, while the test holds the control pair's end."""
    page = Page.create()
    (listener,) = listen("127.0.0.1", 0, 1)
    near, control = make_pair()
    far, records = make_pair()
    passed = (listener.fileno(), control.fileno(), records.fileno(), page.descriptor)
    arguments = [
        "--index=0",
        *(
            f"--{name}={fd}"
            for name, fd in zip(("listener", "control", "records", "page"), passed, strict=True)
        ),
    ]
    code = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-m', 'postwarden_sidecar.worker', *sys.argv[1:]], close_fds=False)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, *arguments], pass_fds=passed)
    control.close()
    records.close()
    channel = Channel(near)
    channel.send(NoRules(1, defer=False))
    channel.send(UpstreamInForce("127.0.0.1:1", "Plain", True, "", "", None))
    assert select.select([near], [], [], TIMEOUT)[0]
    parent.kill()
    parent.wait()
    poll = select.poll()
    poll.register(far.fileno(), 0)  # its end of the records pair is closed when it has exited
    assert poll.poll(TIMEOUT * 1000)
    for end in (channel, far, listener, page):
        end.close()
    os.close(page.descriptor)


def test_the_limit_of_descriptors_is_raised() -> None:
    with Supervised() as worker:
        worker.put_in_force(None, "127.0.0.1:1")
        assert len(set(resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE))) == 1


def test_ctrl_c_is_left_to_the_supervisor() -> None:
    with Supervised() as worker:
        worker.put_in_force(None, "127.0.0.1:1")
        worker.process.send_signal(signal.SIGINT)
        worker.channel.send(NoRules(2, defer=True))
        assert worker.receive() == Applied(2, "")
        with worker.connect() as client:
            assert client.hear_all().startswith(b"421 4.3.2 ")
