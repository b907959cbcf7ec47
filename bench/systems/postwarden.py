"""A sidecar as `bench.systems.pod` has it. The mail server, behind `pass`, and the name server are in groups of their own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.cases.case import Case
from bench.networks import networks
from bench.systems.mta import passed_to
from bench.systems.name_server import PORT, name_server
from bench.systems.pod import config_map, pod, policy
from bench.systems.system import Running


class Postwarden:
    """options: further ones of the command line, as `--workers=2`."""

    def __init__(self, name: str = "postwarden", options: tuple[str, ...] = ()) -> None:
        self.name = name
        self._options = options

    @contextmanager
    def start(self, case: Case) -> Iterator[Running]:
        with ExitStack() as running:
            mta, behind = running.enter_context(passed_to())
            others, resolver = {"mta": behind}, ""
            if case.name_server:
                host, others["name server"] = running.enter_context(name_server())
                resolver = f"{host}:{PORT}"
            documents = [policy(case.spec.replace("{resolver}", resolver))]
            if case.listed:
                documents.append(config_map("zombies", networks()))
            started = running.enter_context(
                pod(
                    documents,
                    upstream=f"unix:{mta.pass_socket}",
                    handoff="pass",
                    name=self.name,
                    options=self._options,
                )
            )
            log = started.sidecar.directory / "stdout"
            yield Running(started.address, started.group, others, log=log)
