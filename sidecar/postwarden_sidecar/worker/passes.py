"""Passes as a worker sees them: its own memory; then the marks of who is stored; then a question to the supervisor, which has the store.

A question that is not answered within 5 ms counts as 'not known': the client waits once more, and no mail is
lost. What is to be stored is kept here at once and sent when the control pair takes it. The questions of a turn go
together: one a client cost worker and supervisor some 140 us, most of them for messages, tasks and threads (measured).

Nobody is asked about a stranger, who has no mark. That is known at once and said a millisecond later, together for all who came in it: by
then those who talk early have spoken, and a client that has is dropped at half the cost (docs/performance.md).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from postwarden_sidecar.ipc.channel import Channel, ChannelFull
from postwarden_sidecar.ipc.messages import MAX_PASS_KEYS, PassAnswer, PassQuery, PassStored
from postwarden_sidecar.ipc.pass_filter import PassFilter
from postwarden_sidecar.net.loop import Loop

ANSWER_LIMIT = 0.005  # seconds (design)
STRANGERS_WAIT = 0.001  # seconds; a part of the client's wait, which began when its passes were asked for
PREPARED_FOR = 0.02  # seconds from `prepare` to a `lookup` for which it counts: four times what it is asked ahead (`engine.connection`)
MAX_KEYS = 65_536  # clients in memory, about 20 MB; the one kept longest makes room
MAX_UNSENT = 4_096  # passes that wait for the control pair; a lost one costs a client its wait

_NOTHING: Mapping[str, float] = MappingProxyType({})
Answer = Callable[[Mapping[str, float]], None]


class _Prepared:
    """A question whose answer waits for who takes it, or the other way round."""

    __slots__ = ("_known", "_taken", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self._known: Mapping[str, float] | None = None
        self._taken: Answer | None = None

    def __call__(self, known: Mapping[str, float]) -> None:
        """The answer."""
        self._known = known
        if self._taken is not None:
            self._taken(known)

    def take(self, answer: Answer) -> None:
        """Call answer once, now or then."""
        self._taken = answer
        if self._known is not None:
            answer(self._known)


class Passes:
    """The pass store of one worker. No call blocks."""

    def __init__(self, loop: Loop, channel: Channel, stored: PassFilter) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self._loop = loop
        self._channel = channel
        self._stored = stored
        self._memory: dict[str, dict[str, float]] = {}
        self._strangers: list[tuple[str, Answer]] = []
        self._strangers_due = 0.0  # when they are answered
        self._asking: list[tuple[str, Answer]] = []  # in this turn
        self._asked: dict[
            int, tuple[float, list[tuple[str, Answer]]]
        ] = {}  # time limit and questions, by age
        self._prepared: dict[str, _Prepared] = {}  # the oldest first
        self._next = 0
        self._unsent: deque[PassStored] = deque(maxlen=MAX_UNSENT)

    def lookup(self, key: str, answer: Answer) -> None:
        """Call answer once: now, after STRANGERS_WAIT, when the supervisor has answered, or after ANSWER_LIMIT. The question is sent by
        `ask`."""
        known = self.remembered(key)
        if known and max(known.values()) > time.time():
            answer(known)
            return
        prepared = self._prepared.pop(key, None)
        if prepared is not None and prepared.until >= self._loop.now:
            prepared.take(answer)
            return
        if not self._stored.may_know(key):
            if not self._strangers:
                self._strangers_due = self._loop.now + STRANGERS_WAIT
                self._wake_at(self._strangers_due)
            self._strangers.append((key, answer))
            return
        if (
            self._channel.wants_write
        ):  # behind a hundred others it would have no answer in time; and rules need the room
            answer({})
            return
        self._asking.append((key, answer))

    def prepare(self, key: str) -> None:
        """`lookup` is likely to come in some milliseconds: ask now, and keep the answer so long."""
        now, prepared = self._loop.now, self._prepared
        while prepared and prepared[oldest := next(iter(prepared))].until < now:
            del prepared[oldest]  # it has left
        self.lookup(key, asked := _Prepared(now + PREPARED_FOR))
        prepared[key] = asked

    def remembered(self, key: str) -> Mapping[str, float]:
        """What is in memory, expired or not; {}: nothing."""
        return self._memory.get(key, _NOTHING)

    def receive(self, message: PassAnswer) -> None:
        """The supervisor's answer, in time or late."""
        asked = self._asked.pop(message.query, None)
        if asked is not None:
            for key, expiries in message.known.items():
                self._keep(key, expiries)
            self._answer(asked[1])

    def _answer(self, asked: Sequence[tuple[str, Answer]]) -> None:
        """With what other connections of the clients have earned while the question was on its way."""
        for key, answer in asked:
            answer(self._memory.get(key, {}))

    def store(self, key: str, expiries: Mapping[str, float]) -> None:
        """Keep a pass, and tell the supervisor."""
        self._keep(key, expiries)
        self._unsent.append(PassStored(key, dict(expiries)))
        self.send_waiting()

    def ask(self) -> None:
        """Send this turn's questions. Raises ChannelClosed."""
        while self._asking:
            together, self._asking = self._asking[:MAX_PASS_KEYS], self._asking[MAX_PASS_KEYS:]
            self._next += 1
            query = PassQuery(self._next, tuple(dict.fromkeys(key for key, _ in together)))
            due = self._loop.now + ANSWER_LIMIT
            self._asked[self._next] = due, together
            self._wake_at(due)
            try:
                self._channel.send(query)
            except ChannelFull:
                del self._asked[self._next]
                self._answer(together)

    def send_waiting(self) -> None:
        """Try again what the control pair did not take."""
        while self._unsent and not self._channel.wants_write:
            try:
                self._channel.send(self._unsent[0])
            except ChannelFull:
                return
            self._unsent.popleft()

    def _keep(self, key: str, expiries: Mapping[str, float]) -> None:
        self._memory[key] = self._memory.pop(key, {}) | dict(expiries)
        if len(self._memory) > MAX_KEYS:
            del self._memory[next(iter(self._memory))]

    def handle_events(self, fd: int, events: int) -> None:
        """It owns no descriptor."""

    def _wake_at(self, due: float) -> None:
        if self.deadline is None or due < self.deadline:
            self._loop.set_deadline(self, due)

    def handle_deadline(self) -> None:
        """Strangers have waited, or the oldest questions had their time."""
        now = self._loop.now
        if self._strangers and self._strangers_due <= now:
            strangers, self._strangers = self._strangers, []
            self._answer(strangers)
        while self._asked:
            query, (due, together) = next(iter(self._asked.items()))
            if due > now:
                self._wake_at(due)
                break
            del self._asked[query]
            self._answer(together)
        if self._strangers:
            self._wake_at(self._strangers_due)

    def fail(self) -> None:
        """The session whose answer it was has ended itself."""
