"""Plays a recorded case against engines in virtual time, and says what differs from what postscreen did."""

from __future__ import annotations

import re
from typing import Any

from engine.scene import Scene, Wire
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.telemetry import postscreen

Case = dict[str, Any]
Line = dict[str, Any]
_REPLY = re.compile(r"(?P<code>[0-9]{3})(?P<mark>[- ])(?:(?P<enh>[245]\.[0-9]+\.[0-9]+) )?(?P<text>.*)")


class Player:
    """A case's clients. lines: of each connection's name, what it got and has not read yet; log: its events as postscreen's words."""

    def __init__(self, scene: Scene, context: Context, listen: str) -> None:
        self._scene = scene
        self._context = context
        self._listen = listen
        self._wires: dict[str, Wire] = {}
        self._all: list[tuple[str, Wire]] = []
        self._acted: dict[str, float] = {}  # when the client last did something
        self._taken: dict[str, int] = {}  # lines read so far

    def play(self, case: Case) -> list[str]:
        """What differs in replies and their times, in order."""
        wanted = {expect["step"]: expect for expect in case["expect"]}
        problems = []
        for number, step in enumerate(case["steps"]):
            name = step.get("c", "a")
            if step["op"] == "read":
                got, stop = self._read(name, step)
                where = f"{case['id']} step {number}"
                problems += compare_read(wanted[number], got, stop, self._since(name), where)
            else:
                self._do(name, step)
                self._acted[name] = self._scene.now if step["op"] != "wait" else self._acted.get(name, 0.0)
        return problems + self._compare_rest(case)

    def logs(self) -> dict[str, list[str]]:
        """Connection name -> its log lines."""
        result: dict[str, list[str]] = {}
        for name, wire in self._all:
            words = [] if wire.record is None else log_words(wire.record)
            result.setdefault(name, []).extend(words)
        return result

    def records(self) -> list[Record]:
        return [wire.record for _, wire in self._all if wire.record is not None]

    def _do(self, name: str, step: dict[str, Any]) -> None:
        scene = self._scene
        match step["op"]:
            case "connect":
                address = step["from"]
                self._wires[name] = wire = scene.connect(
                    self._context, address, 40000 + len(self._all), self._listen
                )
                self._all.append((name, wire))
                self._taken[name] = 0
            case "send":
                data = b"".join(
                    text.encode("latin-1") * times
                    for text, times in step.get("parts", [[step.get("data", ""), 1]])
                )
                start = 0
                for end in (*step.get("split", ()), len(data)):
                    if start:
                        scene.wait(step["gap"])
                    self._wires[name].send(data[start:end])
                    start = end
            case "wait":
                scene.wait(step["s"])
            case "half_close" | "close":
                wire = self._wires[name]
                wire.half_close()
                if step["op"] == "close" and wire.engine.stage == "handoff":
                    wire.reset()  # whom the MTA has not greeted yet is given up when the socket is gone
            case "reset":
                self._wires[name].reset()
            case other:
                raise AssertionError(f"a step of an unknown kind: {other}")

    def _since(self, name: str) -> float:
        return self._scene.now - self._acted[name]

    def _read(self, name: str, step: dict[str, Any]) -> tuple[list[Line], str]:
        until = self._scene.now + step["timeout"]
        while True:
            lines = self._lines(name)[self._taken[name] :]
            count = enough(lines, step)
            closed = self._wires[name].closed
            if count is not None or closed or self._scene.now >= until:
                break
            self._scene.step(until)
        taken = lines if count is None else lines[:count]
        self._taken[name] += len(taken)
        if count is not None:
            return taken, "ok"
        return taken, "eof" if closed else "timeout"

    def _lines(self, name: str) -> list[Line]:
        """All lines that the connection got, with the time since the client's last action before each."""
        lines = []
        for moment, data in self._wires[name].output:
            for text in data.decode("latin-1").splitlines():
                lines.append(parse_line(text) | {"at": moment})
        for line in lines:
            line["after"] = max(0.0, line["at"] - self._acted[name])
        return lines

    def _compare_rest(self, case: Case) -> list[str]:
        problems = []
        for name, rest in case["rest"].items():
            left = self._lines(name)[self._taken[name] :]
            problems += compare_lines(rest["lines"], left, f"{case['id']} rest of {name}")
            if not self._wires[name].closed:
                problems.append(f"{case['id']}: connection {name} is open at the end")
        return problems


def parse_line(text: str) -> Line:
    """A line of a reply as the cases have it."""
    found = _REPLY.fullmatch(text)
    assert found, f"no SMTP reply: {text!r}"
    return {
        "code": found["code"],
        "cont": found["mark"] == "-",
        "enh": found["enh"],
        "text": found["text"],
    }


def enough(lines: list[Line], step: dict[str, Any]) -> int | None:
    """How many of lines are what the step reads; None: more are to come."""
    if "lines" in step:
        return step["lines"] if len(lines) >= step["lines"] else None
    ends = [number for number, line in enumerate(lines, 1) if not line["cont"]]
    replies = step.get("replies")
    return ends[replies - 1] if replies and len(ends) >= replies else None


def _fold(lines: list[Line]) -> list[Line]:
    """Lines, with each multi-line reply to EHLO as one."""
    folded: list[Line] = []
    for line in lines:
        begun = folded[-1] if folded and folded[-1].get("open") else None
        if begun is not None:
            begun["ehlo"].append(line["text"].split(" ")[0])
            begun["open"] = line["cont"]
        elif line["code"] == "250" and line["cont"]:
            folded.append({**line, "ehlo": [], "open": True})
        else:
            folded.append(line)
    return folded


def compare_read(
    want: dict[str, Any], got: list[Line], stop: str, since: float, where: str, slack: float = 0.0
) -> list[str]:
    """What differs between a read and what was recorded. since: the client's last action until the end of the connection, in seconds.
    slack: seconds that all may come later (or, after a late start, earlier), for a machine that has more to do."""
    problems = compare_lines(want["lines"], got, where, slack)
    if want["stop"] != stop:
        problems.append(f"{where}: reading ended by {stop}, want {want['stop']}")
    elif stop == "eof" and not want.get("min", 0.0) - slack <= since <= want.get("max", since) + slack:
        problems.append(f"{where}: the end came after {since:.2f} s")
    return problems


def compare_lines(want: list[Line], lines: list[Line], where: str, slack: float = 0.0) -> list[str]:
    """What differs between lines and what was recorded."""
    got = _fold(lines)
    if len(want) != len(got):
        return [f"{where}: want {want}, got {got}"]
    return [problem for pair in zip(want, got, strict=True) for problem in _compare_line(*pair, where, slack)]


def _compare_line(want: Line, got: Line, where: str, slack: float) -> list[str]:
    problems = []
    if "ehlo" in want:
        offered = got.get("ehlo")
        if got["code"] != "250" or offered is None:
            return [f"{where}: want an EHLO reply, got {got}"]
        if set(want.get("never", ())) & set(offered):
            problems.append(f"{where}: EHLO offers {offered}")
    elif (want["code"], bool(want.get("cont")), want.get("enh")) != (
        got["code"],
        got["cont"],
        got["enh"],
    ) or (want.get("cmp") and want["text"] != got["text"].replace("mx.oracle.test", "HOST")):
        problems.append(f"{where}: want {want}, got {got}")
    latest: float = want["max"] if "max" in want else got["after"]
    if not want.get("min", 0.0) - slack <= got["after"] <= latest + slack:
        problems.append(f"{where}: came after {got['after']:.2f} s, want {want}")
    return problems


def log_words(record: Record) -> list[str]:
    """A record's events in the cases' words, read from the lines that are logged of it."""
    (words,) = log_of(list(postscreen.lines(record, "host", 1))).values() or [[]]
    if not record.proxied:  # the server's own address is compared where a header told it
        words = ["CONNECT" if event.startswith("CONNECT to ") else event for event in words]
    return words


_LINE = re.compile(
    r" postfix/postscreen\[\d+\]: (?P<what>.*?) (?:from )?\[(?P<address>[^]]*)\]:(?P<port>\d+)(?P<rest>.*)"
)
_TIMED = re.compile(r"(PREGREET \d+|HANGUP) after \S+")


def log_of(lines: list[str]) -> dict[tuple[str, int], list[str]]:
    """The events of postscreen's log by client, in the cases' words: without times and the client's address."""
    events: dict[tuple[str, int], list[str]] = {}
    for line in lines:
        found = _LINE.search(line)
        if found is None or found["what"].startswith(
            "warning:"
        ):  # those words of postscreen are not in the cases
            continue
        what, rest = _TIMED.sub(r"\1", found["what"]).removesuffix(" for"), found["rest"].rstrip()
        events.setdefault((found["address"], int(found["port"])), []).append(what + rest)
    return events


def compare_log(want: list[str], got: list[str], where: str) -> list[str]:
    """? marks what may be missing."""
    left = list(got)
    for entry in want:
        if left and left[0] == entry.lstrip("?"):
            left.pop(0)
        elif not entry.startswith("?"):
            return [f"{where}: want {entry!r}, got {left[:1]}"]
    return [f"{where}: unexpected {left}"] if left else []
