"""Jaeger, the tracing backend: a real one with its traces in memory, and the questions that its users ask it.

Contract: `with Jaeger(directory) as jaeger:` takes OTLP at `grpc_url` and `http_url`, and answers `find`, which asks the same
interface as Jaeger's own search page. Its ports are its own, on loopback. Built from e2e/tools/jaeger, once.
"""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from loopback_ports import free_ports

from harness.cluster_process import started
from harness.polling import poll
from harness.postfix_fixtures import progress_seen
from harness.toolchain import TOOLS_MODULE, GoModule, built

JAEGER = GoModule(TOOLS_MODULE / "jaeger", {"jaeger": "github.com/jaegertracing/jaeger/cmd/jaeger"})

START_TIMEOUT = 20.0
"""Seconds until it answers; one is usual."""

SEARCH_TIMEOUT = 45.0
"""Seconds from a span's end until it is found; it is sent in batches of five seconds."""

MOST_TRACES = 5000
"""Kept in memory: more than all tests make. What a search may find at most, too."""

CONFIGURATION = """
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines: {{traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}}}
  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}
extensions:
  jaeger_storage: {{backends: {{memory: {{memory: {{max_traces: {most}}}}}}}}}
  jaeger_query:
    storage: {{traces: memory}}
    http: {{endpoint: "127.0.0.1:{query}"}}
    grpc: {{endpoint: "127.0.0.1:{query_grpc}"}}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}
exporters:
  jaeger_storage_exporter: {{trace_storage: memory}}
"""


@dataclass(frozen=True)
class FoundSpan:
    """start, end: epoch seconds, exact to a microsecond. parent: the id of the span that it is a child of; "" for a root. attributes:
    its own, the span kind and the status among them as Jaeger shows them; resource: of who sent it. events: their names."""

    name: str
    service: str
    id: str
    parent: str
    start: float
    end: float
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    events: tuple[str, ...]


@dataclass(frozen=True)
class FoundTrace:
    """All spans of a trace that are known so far, by their begin."""

    id: str
    spans: tuple[FoundSpan, ...]

    @property
    def root(self) -> FoundSpan:
        """Its one span without a parent."""
        (found,) = [span for span in self.spans if not span.parent]
        return found

    def named(self, name: str) -> list[FoundSpan]:
        return [span for span in self.spans if span.name == name]

    def span(self, name: str) -> FoundSpan:
        """The one of that name."""
        (found,) = self.named(name)
        return found

    def children(self, of: FoundSpan) -> list[FoundSpan]:
        return [span for span in self.spans if span.parent == of.id]


class Jaeger:
    """directory: for its configuration and log."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._grpc, http, self._query, query_grpc = free_ports(4)
        self.grpc_address = f"127.0.0.1:{self._grpc}"
        self.grpc_url = f"http://{self.grpc_address}"
        self.http_url = f"http://127.0.0.1:{http}"
        self._configuration = CONFIGURATION.format(
            most=MOST_TRACES, query=self._query, query_grpc=query_grpc, grpc=self._grpc, http=http
        )

    def __enter__(self) -> Self:
        """Raises TimeoutError with the end of its log."""
        program = built(JAEGER) / "jaeger"
        configuration = self._directory / "jaeger.yaml"
        configuration.write_text(self._configuration)
        command: list[str | Path] = [program, f"--config=file:{configuration}"]
        self._process = started(
            command,
            self._directory / "jaeger.log",
            {"PATH": "/usr/bin:/bin"},
            self._answers,
            START_TIMEOUT,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()

    def find(
        self,
        service: str,
        operation: str,
        tags: Mapping[str, str],
        *,
        since: float = 0.0,
        until: float | None = None,
    ) -> list[FoundTrace]:
        """Traces in which a span of that service and name has all these attributes and began between the two moments (epoch
        seconds; until None: now), the newest first. Raises OSError."""
        until = time.time() if until is None else until
        answer = self._ask(
            "/api/traces",
            {
                "service": service,
                "operation": operation,
                "tags": json.dumps(dict(tags)),
                "start": str(round(since * 1e6)),
                "end": str(round(until * 1e6)),
                "limit": str(MOST_TRACES),
            },
        )
        return [_trace(each) for each in answer["data"]]

    def wait_for(
        self, service: str, operation: str, tags: Mapping[str, str], *, names: tuple[str, ...] = ()
    ) -> FoundTrace:
        """The newest trace of such a search, once it has spans of all these names, as many as named. Raises TimeoutError."""

        def look() -> FoundTrace | None:
            found = self.find(service, operation, tags)
            wanted = Counter(names)
            return next((each for each in found if wanted <= Counter(s.name for s in each.spans)), None)

        return poll(
            look, SEARCH_TIMEOUT, lambda: f"no {operation} of {service} with {tags} and spans {names}"
        )

    def _answers(self) -> bool:
        try:
            self._ask("/api/services", {})
        except OSError:
            return False
        return True

    def _ask(self, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._query}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise OSError(f"Jaeger refuses {url}: {error.read().decode(errors='replace')}") from error
        return found


def _trace(document: Mapping[str, Any]) -> FoundTrace:
    processes = document["processes"]
    spans = [_span(each, processes[each["processID"]]) for each in document["spans"]]
    return FoundTrace(document["traceID"], tuple(sorted(spans, key=lambda span: span.start)))


def _span(document: Mapping[str, Any], process: Mapping[str, Any]) -> FoundSpan:
    # Jaeger gives whole microseconds.
    start, duration = document["startTime"], document["duration"]
    parents = [each["spanID"] for each in document["references"] if each["refType"] == "CHILD_OF"]
    return FoundSpan(
        name=document["operationName"],
        service=process["serviceName"],
        id=document["spanID"],
        parent=parents[0] if parents else "",
        start=start / 1e6,
        end=(start + duration) / 1e6,
        attributes=_tags(document["tags"]),
        resource=_tags(process["tags"]),
        events=tuple(_tags(each["fields"]).get("event", "") for each in document["logs"]),
    )


def _tags(tags: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {each["key"]: each["value"] for each in tags}


@pytest.fixture(scope="session")
def jaeger(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """One for all tests: each looks for what is its own."""
    with progress_seen(pytestconfig):
        built(JAEGER)
    with Jaeger(tmp_path_factory.mktemp("jaeger")) as running:
        yield running
