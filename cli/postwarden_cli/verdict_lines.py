"""A verdict of a sidecar's tail as a line for a person, or as a JSON line for a program.

Contract: what came over the network is escaped once more: no line has a terminal sequence but our own colours, none is longer than
its fields may be. Colours are those of `--log-format pretty`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.telemetry.pretty import verdict_line

CONTROL = "postwarden.tail"  # the key of a sidecar's lines that are no verdict
SHOWN_POD = 40  # characters of a pod's name; longer ones lose their middle
MAX_LINE = 4000  # characters of one text


def json_line(line: Mapping[str, Any], source: Mapping[str, str]) -> str:
    """source: what says which pod it is, by OpenTelemetry's names."""
    return json.dumps({**source, **line}, ensure_ascii=True)


def text_line(line: Mapping[str, Any], pod: str, width: int, *, colour: bool) -> str:
    """pod: "" where there is only one; width: of the column of pods."""
    column = f"{short(pod):<{width}}  " if width else ""
    if CONTROL in line:
        lost = line.get("records")
        return f"{'':8}  {column}… {lost if isinstance(lost, int) else 'some'} verdicts came too fast to be shown"
    try:
        began = datetime.fromisoformat(str(line.get("time"))).astimezone().strftime("%H:%M:%S")
    except ValueError:
        began = "        "
    known = {verdict.value: verdict for verdict in Verdict}
    port = line.get("client.port")
    shown = verdict_line(
        known.get(str(line.get("postwarden.verdict"))),
        _text(line, "postwarden.verdict"),
        _text(line, "client.address"),
        port if isinstance(port, int) else 0,
        _text(line, "postwarden.reason"),
        _text(line, "postwarden.would"),
        colour=colour,
    )
    return f"{began}  {column}{shown}"


def short(pod: str) -> str:
    """The name, without its middle where it is long."""
    shown = safe(pod)
    half = SHOWN_POD // 2
    return shown if len(shown) <= SHOWN_POD else f"{shown[: half - 1]}…{shown[-half:]}"


def safe(text: str) -> str:
    """On one line, without control characters. Text that a sidecar has escaped stays as it is."""
    text = text[:MAX_LINE]
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _text(line: Mapping[str, Any], key: str) -> str:
    return safe(str(line.get(key, "")))
