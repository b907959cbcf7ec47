"""Debian's Prometheus and promtool, as a server that scrapes what a test runs.

Contract: `with Prometheus(targets) as server:` scrapes every INTERVAL; `query` asks it by its HTTP API. It listens on loopback.
"""

import json
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loopback_ports import free_port

from harness.cluster_process import started
from harness.debian_package import unpacked
from harness.polling import poll

INTERVAL = 0.25
"""Seconds between two scrapes: a rate needs two."""

START_TIMEOUT = 20.0
"""Seconds until it answers; one is usual."""

SCRAPE_TIMEOUT = 10.0
"""Seconds until what is there now has been scraped."""


class QueryRefused(Exception):
    """Prometheus' own words."""


@dataclass(frozen=True)
class Target:
    """labels: as discovery in a cluster would add them."""

    address: str
    job: str
    labels: Mapping[str, str]


class Prometheus:
    """rules: rule files that it evaluates, too."""

    def __init__(self, targets: Sequence[Target], *, rules: Sequence[Path] = ()) -> None:
        self._targets = targets
        self._rules = rules

    def __enter__(self) -> Self:
        """Raises TimeoutError with the end of its log."""
        program = unpacked("prometheus") / "usr/bin/prometheus"
        self._address = f"127.0.0.1:{free_port()}"
        with ExitStack() as cleanup:
            directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="prometheus-")))
            config = directory / "prometheus.json"  # JSON is YAML
            config.write_text(json.dumps(self._config()))
            command: list[str | Path] = [
                *(program, f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}"),
                *(f"--web.listen-address={self._address}", "--log.level=warn"),
            ]
            process = started(command, directory / "log", {}, self._ready, START_TIMEOUT)
            cleanup.callback(process.kill)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Series with their `metric` (labels) and `value`. Raises QueryRefused."""
        found: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return found

    def value(self, expression: str) -> float | None:
        """Of the one series; None: there is none. Raises QueryRefused."""
        found = self.query(expression)
        assert len(found) <= 1, f"{expression}: {len(found)} series"
        return float(found[0]["value"][1]) if found else None

    def wait_for(self, expression: str, value: float) -> None:
        """Raises TimeoutError, with the value of then."""
        poll(
            lambda: self.value(expression) == value,
            SCRAPE_TIMEOUT,
            lambda: f"{expression} is {self.value(expression)}, not {value}",
        )

    def targets(self) -> list[dict[str, Any]]:
        """As it sees them: their health, and the error of the last scrape."""
        found: list[dict[str, Any]] = self._get("targets")["activeTargets"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """All rules, with their health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise QueryRefused(error.read().decode()) from error

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def _config(self) -> dict[str, Any]:
        interval = f"{round(INTERVAL * 1000)}ms"
        jobs = [
            {
                "job_name": target.job,
                "static_configs": [{"targets": [target.address], "labels": dict(target.labels)}],
            }
            for target in self._targets
        ]
        return {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "rule_files": [str(path) for path in self._rules],
            "scrape_configs": jobs,
        }


def promtool(*arguments: str | Path, stdin: str = "") -> str:
    """What it printed. Raises AssertionError with that, where it fails."""
    program = unpacked("prometheus") / "usr/bin/promtool"
    done = subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
