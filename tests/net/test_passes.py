"""Passes as a worker sees them, where the supervisor is slow or reads nothing: no client waits for it, and no pass is lost that fits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from postwarden_sidecar.ipc.channel import Channel
from postwarden_sidecar.ipc.messages import MAX_PASS_KEYS, Applied, PassAnswer, PassQuery, PassStored
from postwarden_sidecar.ipc.pair import make_pair
from postwarden_sidecar.ipc.pass_filter import SIZE, PassFilter
from postwarden_sidecar.net.loop import Loop
from postwarden_sidecar.worker import passes
from postwarden_sidecar.worker.passes import ANSWER_LIMIT, PREPARED_FOR, STRANGERS_WAIT, Passes

LATER = time.time() + 1000


class Supervised:
    """Passes, and the supervisor's end."""

    def __init__(self) -> None:
        near, self.far = make_pair()
        self.loop = Loop()
        self.channel = Channel(near)
        self.stored = PassFilter(memoryview(bytearray(SIZE)))  # nothing is known of what is stored
        self.passes = Passes(self.loop, self.channel, self.stored)
        self.supervisor = Channel(self.far)
        self.answers: list[object] = []

    def pass_time(self, seconds: float) -> None:
        """As a turn of the loop does it."""
        self.loop.now += seconds
        while self.passes.deadline is not None and self.passes.deadline <= self.loop.now:
            self.loop.set_deadline(self.passes, None)
            self.passes.handle_deadline()

    def read(self) -> list[object]:
        """What the supervisor finds."""
        found: list[object] = []
        while (received := self.supervisor.receive()) is not None:
            found.append(received[0])
        return found


@pytest.fixture
def it() -> Iterator[Supervised]:
    made = Supervised()
    yield made
    made.channel.close()
    made.supervisor.close()
    made.loop.release()


def test_a_question_that_is_not_answered_in_5_ms_counts_as_unknown_and_a_late_answer_is_dropped(
    it: Supervised,
) -> None:
    it.passes.lookup("192.0.2.1", it.answers.append)
    it.passes.ask()
    assert it.read() == [PassQuery(1, ("192.0.2.1",))]
    it.loop.now += ANSWER_LIMIT - 0.001
    it.passes.handle_deadline()
    assert it.answers == []
    it.loop.now += 0.002
    it.passes.handle_deadline()
    assert it.answers == [{}]
    it.passes.receive(PassAnswer(1, {"192.0.2.1": {"pregreet": LATER}}))
    assert it.answers == [{}]


def test_the_questions_of_a_turn_go_together_and_each_has_its_answer(it: Supervised) -> None:
    clients = [f"192.0.2.{number}" for number in range(MAX_PASS_KEYS + 1)]
    for client in (*clients, clients[-1]):
        it.passes.lookup(client, it.answers.append)
    assert it.read() == []
    it.passes.ask()
    assert it.read() == [PassQuery(1, tuple(clients[:-1])), PassQuery(2, (clients[-1],))]
    it.passes.receive(PassAnswer(2, {clients[-1]: {"pregreet": LATER}}))
    assert it.answers == [{"pregreet": LATER}] * 2
    it.passes.receive(PassAnswer(1, {clients[1]: {"pregreet": LATER}}))
    assert it.answers[2:] == [{}, {"pregreet": LATER}, *[{}] * (MAX_PASS_KEYS - 2)]


def test_an_answer_about_the_most_clients_fits_a_message(it: Supervised) -> None:
    tests = ("pregreet", "dnsbl", "pipelining", "non_smtp_command", "bare_newline")
    known = {
        f"2001:db8:{number:04x}:ffff:ffff:ffff:ffff:ffff": dict.fromkeys(tests, LATER)
        for number in range(MAX_PASS_KEYS)
    }
    it.supervisor.send(PassAnswer(1, known))
    received = it.channel.receive()
    assert received is not None
    assert received[0] == PassAnswer(1, known)


def test_while_the_supervisor_reads_nothing_clients_are_unknown_at_once_and_rules_have_room(
    it: Supervised,
) -> None:
    """Thousands of questions and passes must not take the places of what can't be told again."""
    for number in range(5_000):
        it.passes.lookup(f"192.0.2.{number}", it.answers.append)
        it.passes.ask()
        it.passes.store(f"198.51.100.{number}", {"pregreet": LATER})
    assert it.channel.wants_write
    assert it.answers.count({}) > 4_000
    for serial in range(100):
        it.channel.send(Applied(serial, ""))  # a full queue would raise


def test_what_the_control_pair_does_not_take_waits_bounded_and_is_sent_when_it_does(
    it: Supervised,
) -> None:
    for number in range(20_000):
        it.passes.store(str(number), {"pregreet": LATER})
    it.passes.lookup("0", it.answers.append)
    assert it.answers == [{"pregreet": LATER}], "known here at once"
    assert len(it.passes._unsent) == passes.MAX_UNSENT
    found: list[object] = []
    while len(it.passes._unsent) or it.channel.wants_write:
        found += it.read()
        with suppress(BlockingIOError):
            it.channel.flush()
        it.passes.send_waiting()
    found += it.read()
    keys = [message.key for message in found if isinstance(message, PassStored)]
    assert keys == sorted(keys, key=int)
    assert keys[-passes.MAX_UNSENT :] == [str(number) for number in range(20_000 - passes.MAX_UNSENT, 20_000)]


CLIENT = "192.0.2.1"


def test_strangers_are_answered_together_after_their_wait_and_not_asked_for(it: Supervised) -> None:
    it.stored.renew(["192.0.2.9"])
    for client in (CLIENT, "192.0.2.9"):
        it.passes.lookup(client, it.answers.append)
    it.passes.ask()
    assert it.read() == [PassQuery(1, ("192.0.2.9",))]
    it.loop.now += STRANGERS_WAIT / 2
    it.passes.lookup("192.0.2.2", it.answers.append)
    it.pass_time(STRANGERS_WAIT / 2 - 1e-6)
    assert it.answers == []
    it.pass_time(2e-6)
    assert it.answers == [{}, {}]
    it.pass_time(ANSWER_LIMIT)
    assert it.answers == [{}, {}, {}], "the question has its own limit"


def test_a_stranger_that_passed_meanwhile_is_none(it: Supervised) -> None:
    it.stored.renew([])
    it.passes.lookup(CLIENT, it.answers.append)
    it.passes.store(CLIENT, {"pregreet": LATER})
    it.pass_time(STRANGERS_WAIT)
    assert it.answers == [{"pregreet": LATER}]


def test_strangers_that_come_by_an_answer_wait_their_own_time(it: Supervised) -> None:
    it.stored.renew([])
    it.passes.lookup(CLIENT, lambda known: it.passes.lookup("192.0.2.2", it.answers.append))
    it.pass_time(STRANGERS_WAIT)
    assert it.answers == []
    it.pass_time(STRANGERS_WAIT)
    assert it.answers == [{}]
    assert it.passes.deadline is None


def test_a_stranger_that_is_prepared_is_answered_at_once(it: Supervised) -> None:
    it.stored.renew([])
    it.passes.prepare(CLIENT)
    it.pass_time(STRANGERS_WAIT)
    it.passes.lookup(CLIENT, it.answers.append)
    assert it.answers == [{}]
    assert it.read() == []


def test_who_is_prepared_is_answered_at_once_and_once(it: Supervised) -> None:
    it.passes.prepare(CLIENT)
    it.passes.ask()
    assert it.read() == [PassQuery(1, (CLIENT,))]
    it.passes.receive(PassAnswer(1, {}))
    assert it.answers == []
    it.passes.lookup(CLIENT, it.answers.append)
    assert it.answers == [{}]
    it.passes.lookup(CLIENT, it.answers.append)
    it.passes.ask()
    assert it.read() == [PassQuery(2, (CLIENT,))]


def test_a_pass_that_was_found_or_earned_meanwhile_counts(it: Supervised) -> None:
    for number, client in enumerate(("192.0.2.1", "192.0.2.2"), 1):
        it.passes.prepare(client)
        it.passes.ask()
        it.passes.receive(PassAnswer(number, {"192.0.2.1": {"pregreet": LATER}}))
    it.passes.store("192.0.2.2", {"pregreet": LATER + 1})
    it.passes.lookup("192.0.2.1", it.answers.append)
    it.passes.lookup("192.0.2.2", it.answers.append)
    assert it.answers == [{"pregreet": LATER}, {"pregreet": LATER + 1}]


@pytest.mark.parametrize("in_time", [True, False])
def test_who_comes_before_the_answer_to_its_preparation_waits_for_that_and_no_longer(
    it: Supervised, in_time: bool
) -> None:
    it.passes.prepare(CLIENT)
    it.passes.ask()
    it.loop.now += ANSWER_LIMIT - 0.001
    it.passes.lookup(CLIENT, it.answers.append)
    it.passes.ask()
    assert it.read() == [PassQuery(1, (CLIENT,))]
    assert it.answers == []
    if in_time:
        it.passes.receive(PassAnswer(1, {CLIENT: {"pregreet": LATER}}))
    else:
        it.loop.now += 0.002
        it.passes.handle_deadline()
    assert it.answers == [{"pregreet": LATER} if in_time else {}]


def test_what_was_prepared_long_ago_counts_no_more_and_is_not_kept(it: Supervised) -> None:
    it.passes.prepare(CLIENT)
    it.passes.ask()
    it.passes.receive(PassAnswer(1, {}))
    it.loop.now += PREPARED_FOR + 0.001
    it.passes.lookup(CLIENT, it.answers.append)
    assert it.answers == []
    for number in range(1000):
        it.passes.prepare(f"198.51.100.{number}")
        it.loop.now += 0.001
    assert len(it.passes._prepared) <= PREPARED_FOR * 1000 + 2
