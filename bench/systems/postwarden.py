"""A sidecar as `bench.systems.pod` has it. The mail server, behind `pass`, is in a group of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from bench.cases.case import Case
from bench.networks import networks
from bench.systems.mta import passed_to
from bench.systems.pod import config_map, pod, policy
from bench.systems.system import Running


class Postwarden:
    """options: further ones of the command line, as `--workers=2`."""

    def __init__(self, name: str = "postwarden", options: tuple[str, ...] = ()) -> None:
        self.name = name
        self._options = options

    @contextmanager
    def start(self, case: Case) -> Iterator[Running]:
        documents = [policy(case.spec.replace("{resolver}", ""))]
        if case.listed:
            documents.append(config_map("zombies", networks()))
        with (
            passed_to() as (mta, behind),
            pod(
                documents,
                upstream=f"unix:{mta.pass_socket}",
                handoff="pass",
                name=self.name,
                options=self._options,
            ) as started,
        ):
            yield Running(started.address, started.group, {"mta": behind})
