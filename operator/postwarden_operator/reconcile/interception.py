"""Whether Services lead clients to the sidecar, or past it to the MTA. Pure.

Contract: judged is what is known: a Service that selects no pod of the policy, or leads to another port of it, says nothing. A name is
looked up as a Service does it (measured): in the regular containers, then in the native sidecars. A headless Service looks nothing up: its
clients dial the port that they think right.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from postwarden_operator.reconcile.compilation import SHOWN_ERRORS, Reason
from postwarden_operator.reconcile.exposure import Exposure


@dataclass(frozen=True, slots=True)
class ServicePort:
    """port: what clients dial. target: number or name."""

    port: int
    target: int | str


@dataclass(frozen=True, slots=True)
class Service:
    """outside: nodes take clients in for it. keeps_address: by externalTrafficPolicy Local. ports: the TCP ones."""

    name: str
    selector: tuple[tuple[str, str], ...]
    ports: tuple[ServicePort, ...]
    headless: bool = False
    outside: bool = False
    keeps_address: bool = False

    def selects(self, labels: Mapping[str, str]) -> bool:
        """One without a selector selects nothing that we know of."""
        return bool(self.selector) and all(labels.get(key) == value for key, value in self.selector)


@dataclass(frozen=True, slots=True)
class Screened:
    """A pod with a sidecar."""

    labels: Mapping[str, str]
    exposure: Exposure


@dataclass(frozen=True, slots=True)
class Interception:
    """The condition Intercepted. status: True, False or Unknown."""

    status: str
    reason: Reason


def interception(
    screened: Iterable[Screened],
    bare: tuple[str, ...],
    services: Iterable[Service],
    *,
    upstream_port: int | None = None,
    believes_proxy: bool = False,
) -> Interception:
    """Of a policy. bare: the names of its pods that run without a sidecar. services: of its namespace. upstream_port: that the policy
    names. believes_proxy: clients may come by load balancers that tell their addresses."""
    kinds = {(tuple(sorted(pod.labels.items())), pod.exposure) for pod in screened}
    past: list[str] = []
    losing: list[str] = []
    leading = 0
    for service in services:
        exposures = {exposure for labels, exposure in kinds if service.selects(dict(labels))}
        detours, reaches = _judge(service, exposures, upstream_port)
        past += detours
        leading += reaches and not detours
        if reaches and service.outside and not service.keeps_address and not believes_proxy:
            losing.append(service.name)
    problems: list[Reason] = []
    if bare:
        problems.append(Reason("NotInjected", _not_injected(bare)))
    if past:
        problems.append(
            Reason("Bypassed", f"past the sidecar: {'; '.join(past[:SHOWN_ERRORS])}{_more(past)}")
        )
    if problems:
        return Interception("False", Reason(problems[0].reason, "; ".join(each.message for each in problems)))
    if not kinds:
        return Interception(
            "Unknown", Reason("NoSidecars", "no running pod carries a sidecar whose port is known")
        )
    if losing:
        shown = ", ".join(losing[:SHOWN_ERRORS])
        message = (
            f"Services that take clients in at any node hide their addresses: {shown}{_more(losing)}; set externalTrafficPolicy: Local, or "
            "have the load balancer speak PROXY and name it in listener.proxyProtocol.trusted"
        )
        return Interception("True", Reason("AddressLost", message))
    if not leading:
        return Interception(
            "True", Reason("NoService", "no Service leads to the MTA's pods, and none past the sidecar")
        )
    return Interception(
        "True", Reason("Intercepted", f"{leading} Services lead to the sidecar, none past it")
    )


def _judge(service: Service, exposures: Iterable[Exposure], upstream: int | None) -> tuple[list[str], bool]:
    """What leads past the sidecar, a sentence each; whether anything leads to it."""
    past: dict[str, None] = {}
    reaches = False
    for exposure in exposures:
        mta = {exposure.mta, upstream} - {None, exposure.listen} if not exposure.redirected else set()
        for port in service.ports:
            number = port.port if service.headless else exposure.resolve(port.target)
            if number == exposure.listen or (exposure.redirected and number == exposure.mta):
                reaches = True
            elif number in mta:
                past[_detour(service, port, number, exposure)] = None
    return list(past), reaches


def _detour(service: Service, port: ServicePort, number: int | None, exposure: Exposure) -> str:
    if service.headless:
        return (
            f"Service {service.name} is headless, and who dials its port {number} comes to the MTA: let clients use a Service with a "
            f"ClusterIP, or the port {exposure.listen}"
        )
    return f"Service {service.name}, port {port.port}, has targetPort {port.target}, the MTA's: write targetPort: {exposure.way_in}"


def _not_injected(bare: tuple[str, ...]) -> str:
    return (
        f"{len(bare)} pods run without a sidecar ({', '.join(bare[:SHOWN_ERRORS])}{_more(bare)}): label the namespace "
        "postwarden.dev/injection=enabled, look for the pods' annotation postwarden.dev/not-injected, and create them anew"
    )


def _more(all_of_them: Collection[str]) -> str:
    left = len(all_of_them) - SHOWN_ERRORS
    return f" and {left} more" if left > 0 else ""
