"""Which container of a pod is the MTA, and on which port it listens.

Contract: `find_mta` looks at regular containers only, as a Service does first. It raises NotInjectable, whose text says what to change.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from postwarden_operator.inject import names
from postwarden_operator.inject.annotations import PREFIX, Annotations, Intercept
from postwarden_operator.policy.vocabulary import Handoff

Json = Mapping[str, Any]


class NotInjectable(Exception):
    """The text is one sentence: what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Mta:
    """container: its index among the regular ones. port: number; None: it listens on none, or on one that nobody named. named: the port
    has the name that the annotation says."""

    container: int
    port: int | None
    named: bool


def find_mta(spec: Json, wanted: Annotations) -> Mta:
    """Raises NotInjectable."""
    containers = spec.get("containers") or []
    found = [
        (index, port)
        for index, container in enumerate(containers)
        for port in tcp_ports(container)
        if port.get("name") == wanted.port
    ]
    if len(found) > 1:
        of = " and ".join(str(containers[index].get("name")) for index, _ in found)
        raise NotInjectable(
            f'two ports are named "{wanted.port}" (containers {of}): let only the MTA\'s port have that name, or name the '
            f"MTA's by the annotation {PREFIX}port"
        )
    if found:
        index, port = found[0]
        return Mta(index, int(port["containerPort"]), named=True)
    if wanted.intercept is Intercept.PORT and wanted.handoff is not Handoff.PASS:
        raise NotInjectable(
            f'no container has a TCP port named "{wanted.port}": add `ports: [{{name: {wanted.port}, containerPort: 25}}]` to the MTA\'s '
            f"container, or name its port by the annotation {PREFIX}port"
        )
    by_number = [
        index
        for index, container in enumerate(containers)
        for port in tcp_ports(container)
        if port.get("containerPort") == names.SMTP_PORT
    ]
    holder = [
        index
        for index, container in enumerate(containers)
        if wanted.socket_volume is not None
        for mount in container.get("volumeMounts") or ()
        if mount.get("name") == wanted.socket_volume.volume
    ]
    port_of = names.SMTP_PORT if by_number or wanted.intercept is Intercept.REDIRECT else None
    return Mta((by_number + holder + [0])[0], port_of, named=False)


def tcp_ports(container: Json) -> Iterator[Json]:
    """Of the container."""
    for port in container.get("ports") or ():
        if port.get("protocol", "TCP") == "TCP":
            yield port


def all_containers(spec: Json) -> Iterator[Json]:
    """Init containers, and regular ones."""
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()


def refuse_unfit(pod: Json, wanted: Annotations) -> None:
    """What makes a pod unfit, whichever its MTA. Raises NotInjectable."""
    spec = pod.get("spec") or {}
    selector = spec.get("nodeSelector") or {}
    if "windows" in ((spec.get("os") or {}).get("name"), selector.get("kubernetes.io/os")):
        raise NotInjectable("the pod is for Windows, and the sidecar runs on Linux only")
    if spec.get("hostNetwork") and wanted.intercept is not Intercept.NONE:
        raise NotInjectable(
            "the pod uses the node's network (hostNetwork), where clients reach the MTA's port past the sidecar: take the pod's own "
            f"network, with a hostPort if need be, or wire it by hand with the annotation {PREFIX}intercept: none"
        )
    ours = {
        names.HEALTH_PORT: "health",
        names.METRICS_PORT: "metrics",
        names.ADMIN_PORT: "administration",
        wanted.listen_port: "clients",
    }
    if wanted.intercept is Intercept.REDIRECT:
        ours[names.REDIRECT_PROOF_PORT] = "the proof that clients are redirected"
    for container in all_containers(spec):
        for port in tcp_ports(container):
            number = port.get("containerPort")
            if number in ours:
                hint = (
                    f"choose another one by the annotation {PREFIX}listen-port"
                    if number == wanted.listen_port
                    else "give the container's another number"
                )
                raise NotInjectable(
                    f"container {container.get('name')} has the port {number}, which the sidecar needs for {ours[number]}: {hint}"
                )
    _refuse_taken_names(spec, wanted)


def _refuse_taken_names(spec: Json, wanted: Annotations) -> None:
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    for volume in (names.TOKEN_VOLUME, names.STATE_VOLUME):
        if volume in volumes:
            raise NotInjectable(f'a volume is already named "{volume}", which is the sidecar\'s: rename it')
    ours = {names.UPSTREAM_PORT_NAME, names.HOST_PORT_NAME, names.SIDECAR_PORT_NAME}
    for container in all_containers(spec):
        if container.get("name") == names.REDIRECT_CONTAINER:
            raise NotInjectable(
                f'a container is named "{names.REDIRECT_CONTAINER}", which is ours: rename it'
            )
        for port in container.get("ports") or ():
            if port.get("name") in ours:
                raise NotInjectable(
                    f'container {container.get("name")} has a port named "{port["name"]}", which is ours: rename it'
                )
    if wanted.intercept is Intercept.PORT:
        for container in spec.get("initContainers") or ():
            if any(port.get("name") == wanted.port for port in container.get("ports") or ()):
                raise NotInjectable(
                    f'init container {container.get("name")} has a port named "{wanted.port}", the name by which Services are to find '
                    f"the sidecar: rename it"
                )
    socket = wanted.socket_volume
    if socket is not None and socket.volume not in volumes:
        there = ", ".join(sorted(map(str, volumes))) or "none"
        raise NotInjectable(
            f'annotation {PREFIX}socket-volume: the pod has no volume "{socket.volume}"; it has {there}'
        )
    if wanted.handoff is Handoff.PASS and socket is None:
        raise NotInjectable(
            f"the hand-off Pass needs the MTA's socket: name the volume that holds it by the annotation {PREFIX}socket-volume"
        )
