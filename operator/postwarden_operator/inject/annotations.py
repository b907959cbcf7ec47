"""The annotations of a pod by which its owner says how it is to be screened: names, defaults, meaning, checks.

Contract: `read_annotations` gives the settings, or every problem there is, each one sentence that names the annotation. An annotation of
ours that is not known is a warning: a newer release may know it. The table in the documentation is made from ANNOTATIONS.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from postwarden_operator.inject import names
from postwarden_operator.policy.duration import DURATION_PATTERN, milliseconds
from postwarden_operator.policy.network import network_problem
from postwarden_operator.policy.text_format import quoted
from postwarden_operator.policy.vocabulary import Handoff

PREFIX = "postwarden.dev/"

_LOWEST_PORT = 1024
"""The sidecar is nobody's root."""

_LONGEST_DRAIN = "1h"


class AnnotationsInvalid(ValueError):
    """problems: all of them, a sentence each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Intercept(StrEnum):
    """How clients come to the sidecar instead of the MTA."""

    PORT = "port"
    REDIRECT = "redirect"
    NONE = "none"


class OnError(StrEnum):
    """What becomes of a pod that can't be injected."""

    REFUSE = "Refuse"
    UNSCREENED = "Unscreened"


class WithoutRules(StrEnum):
    """What clients get while the sidecar has no policy."""

    PASS = "Pass"  # noqa: S105  (no password)
    DEFER = "Defer"


class PreStop(StrEnum):
    """Whether the other containers wait while the sidecar drains."""

    SLEEP = "Sleep"
    NONE = "None"


@dataclass(frozen=True, slots=True)
class SocketVolume:
    """A volume of the pod, and the folder in it that is mounted ("": all of it)."""

    volume: str
    sub_path: str = ""


@dataclass(frozen=True, slots=True)
class Annotations:
    """A pod's, with the defaults of those that it does not have. Durations are milliseconds."""

    intercept: Intercept
    port: str
    listen_port: int
    handoff: Handoff | None
    proxy_trusted: tuple[str, ...]
    without_rules: WithoutRules
    drain_delay: int
    drain_timeout: int
    pre_stop: PreStop
    socket_volume: SocketVolume | None
    socket_group: int | None
    on_error: OnError


@dataclass(frozen=True, slots=True)
class Annotation:
    """name: without PREFIX. default: as the text that would say the same; None: nothing. parse: raises ValueError, a sentence about the
    text."""

    name: str
    values: str
    default: str | None
    meaning: str
    parse: Callable[[str], object]


def read_annotations(annotations: Mapping[str, str]) -> tuple[Annotations, tuple[str, ...]]:
    """The settings, and warnings. Raises AnnotationsInvalid."""
    read: dict[str, Any] = {}
    problems: list[str] = []
    for each in ANNOTATIONS:
        text = annotations.get(PREFIX + each.name, each.default)
        try:
            read[each.name.replace("-", "_")] = None if text is None else each.parse(text.strip())
        except ValueError as error:
            problems.append(f"annotation {PREFIX}{each.name}: {error}")
    if problems:
        raise AnnotationsInvalid(tuple(problems))
    known = [each.name for each in ANNOTATIONS]
    strange = (
        key.removeprefix(PREFIX)
        for key in annotations
        if key.startswith(PREFIX) and key != names.NOT_INJECTED
    )
    warnings = [_unknown(name, known) for name in strange if name not in known]
    return Annotations(**read), tuple(warnings)


def on_error(annotations: Mapping[str, str]) -> OnError:
    """What is to become of a pod with these annotations that can't be injected; one that says nothing of use is refused."""
    known = {each.value for each in OnError}
    text = annotations.get(f"{PREFIX}on-error", "").strip()
    return OnError(text) if text in known else OnError.REFUSE


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {PREFIX}{near[0]}?" if near else "it does nothing"
    return f"annotation {PREFIX}{name} is not known: {hint}"


def _word(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    words = [each.value for each in kind]

    def parse(text: str) -> StrEnum:
        # The hand-offs are written proxy-v2 in flags: nobody is to stumble over that.
        folded = {each.lower(): each for each in words}
        found = folded.get(text.lower().replace("-", ""))
        if found is None:
            raise ValueError(f"{quoted(text)} is none of {', '.join(words)}")
        return kind(found)

    return parse


def _port_name(text: str) -> str:
    """As Kubernetes has them (RFC 6335, section 5.1)."""
    if not re.fullmatch(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*", text) or len(text) > 15:
        raise ValueError(
            f"{quoted(text)} is no name of a port; write the name that the MTA's port has, like smtp"
        )
    return text


def _listen_port(text: str) -> int:
    taken = (names.HEALTH_PORT, names.METRICS_PORT, names.ADMIN_PORT, names.REDIRECT_PROOF_PORT)
    if not re.fullmatch("[0-9]{1,5}", text) or not _LOWEST_PORT <= int(text) <= 65535:
        raise ValueError(
            f"{quoted(text)} is no port that the sidecar can listen on; write one from {_LOWEST_PORT} to 65535"
        )
    if int(text) in taken:
        raise ValueError(
            f"{text} is one of the sidecar's own ports {', '.join(map(str, taken))}; write another one"
        )
    return int(text)


def _networks(text: str) -> tuple[str, ...]:
    networks = tuple(filter(None, re.split(r"[,\s]+", text)))
    for each in networks:
        if (problem := network_problem(each)) is not None:
            raise ValueError(problem)
    return networks


def _drain_time(text: str) -> int:
    if not re.fullmatch(DURATION_PATTERN, text) or milliseconds(text) > milliseconds(_LONGEST_DRAIN):
        raise ValueError(
            f"{quoted(text)} is no duration of at most {_LONGEST_DRAIN}; write one like 5s or 1m30s"
        )
    return milliseconds(text)


def _socket_volume(text: str) -> SocketVolume:
    volume, _, sub_path = text.partition(":")
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", volume):
        raise ValueError(f"{quoted(text)} names no volume; write VOLUME or VOLUME:FOLDER, like queue:public")
    if sub_path.startswith("/") or ".." in sub_path.split("/"):
        raise ValueError(
            f"{quoted(text)}: the folder must lie in the volume; write it without a slash in front and without '..'"
        )
    return SocketVolume(volume, sub_path.strip("/"))


def _group(text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or not 0 < int(text) < 2**31:
        raise ValueError(
            f"{quoted(text)} is no number of a group; write one like 120, the gid of postdrop in the MTA's image"
        )
    return int(text)


ANNOTATIONS: tuple[Annotation, ...] = (
    Annotation(
        "intercept",
        "`port`, `redirect`, `none`",
        "port",
        "How clients come to the sidecar, see below.",
        _word(Intercept),
    ),
    Annotation(
        "port", "a port's name", "smtp", "The MTA's port, by the name that the pod gives it.", _port_name
    ),
    Annotation("listen-port", "1024 to 65535", "10025", "Where the sidecar listens.", _listen_port),
    Annotation(
        "handoff",
        "`Plain`, `ProxyV1`, `ProxyV2`, `Pass`",
        None,
        "How clients are given to the MTA while no policy says so. Set it wherever the MTA expects a PROXY header or listens on loopback "
        "only: probes of its port are then sent to the sidecar.",
        _word(Handoff),
    ),
    Annotation(
        "proxy-trusted",
        "networks, separated by commas",
        "",
        "Load balancers whose PROXY header is believed, and required, while no policy says so.",
        _networks,
    ),
    Annotation(
        "without-rules",
        "`Pass`, `Defer`",
        "Pass",
        "What clients get while the sidecar knows no policy: handed over unscreened, or 421.",
        _word(WithoutRules),
    ),
    Annotation(
        "drain-delay",
        "a duration, at most 1h",
        "5s",
        "How long a pod that ends takes new clients still, for Services' lag.",
        _drain_time,
    ),
    Annotation(
        "drain-timeout",
        "a duration, at most 1h",
        "20s",
        "How long open sessions may then go on.",
        _drain_time,
    ),
    Annotation(
        "pre-stop",
        "`Sleep`, `None`",
        "Sleep",
        "Sleep: the pod's other containers that have no preStop get one that waits until the sidecar has drained. None: they are left as "
        "they are.",
        _word(PreStop),
    ),
    Annotation(
        "socket-volume",
        "VOLUME or VOLUME:FOLDER",
        None,
        f"A volume of the pod that holds the MTA's socket, for `Pass`. The sidecar sees it at `{names.SOCKET_DIRECTORY}`.",
        _socket_volume,
    ),
    Annotation(
        "socket-group",
        "a gid",
        None,
        "The group that may use that socket: the sidecar runs with it.",
        _group,
    ),
    Annotation(
        "on-error",
        "`Refuse`, `Unscreened`",
        "Refuse",
        "What becomes of a pod that can't be injected: it is refused, and says why; or it starts without a sidecar, with a warning.",
        _word(OnError),
    ),
)
