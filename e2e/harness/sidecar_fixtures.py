"""Fixtures with sidecar processes and their MTA, for e2e/conftest.py to import."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import ApiServer
from harness.mail_sink import MailSink
from harness.operator_process import OperatorProcess
from harness.screening_objects import mail_pod
from harness.sidecar_process import SidecarProcess

__all__ = ["StartSidecar", "mail_sink", "start_sidecar"]

StartSidecar = Callable[..., SidecarProcess]


@pytest.fixture
def mail_sink() -> Iterator[MailSink]:
    """An MTA that takes mail for example.org."""
    with MailSink() as sink:
        yield sink


@pytest.fixture
def start_sidecar(
    api_server: ApiServer,
    operator: OperatorProcess,
    namespace: str,
    mail_sink: MailSink,
    tmp_path: Path,
) -> Iterator[StartSidecar]:
    """`start_sidecar(pod="mta-0", labels={}, **settings)` makes a pod object and runs its sidecar in front of `mail_sink`.

    settings: SidecarProcess's. All end with the test.
    """
    with ExitStack() as running:

        def start(
            pod: str = "mta-0", *, labels: dict[str, str] | None = None, **settings: Any
        ) -> SidecarProcess:
            directory = tmp_path / pod
            directory.mkdir()
            token = api_server.bound_token(mail_pod(api_server, namespace, pod, **(labels or {})))
            settings = {"upstream": mail_sink.address, "operator": operator, "token": token, **settings}
            return running.enter_context(SidecarProcess(directory, **settings))

        yield start
