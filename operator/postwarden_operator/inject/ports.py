"""Interception by the port's name: the sidecar gets the name of the MTA's port, and whoever used that name for the MTA its number.

Contract: each function changes the given pod's spec, which is a copy of the caller's. A Service looks a name up in the regular containers
first and then in native sidecars (measured), hence the MTA's port is renamed. Kubelet maps only hostPorts of regular containers (measured),
hence the hostPort goes to a port of the MTA's container that is in truth the sidecar's. A probe's port name is looked up in its own
container only (measured).
"""

from collections.abc import Iterator
from typing import Any

from postwarden_operator.inject import names
from postwarden_operator.inject.annotations import Annotations, Intercept
from postwarden_operator.inject.mta import Mta, all_containers, tcp_ports
from postwarden_operator.policy.vocabulary import Handoff

_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def take_port_name(spec: dict[str, Any], mta: Mta, wanted: Annotations) -> None:
    """The MTA's port is `smtp-upstream` from now on; its hostPort leads to the sidecar; its probes and hooks find it by number."""
    if not mta.named:
        return
    container = spec["containers"][mta.container]
    port = next(each for each in tcp_ports(container) if each.get("name") == wanted.port)
    assert isinstance(port, dict)
    port["name"] = names.UPSTREAM_PORT_NAME
    if port.get("hostPort"):
        moved = {key: port.pop(key) for key in ("hostPort", "hostIP") if key in port}
        container["ports"].append(
            {"name": names.HOST_PORT_NAME, "containerPort": wanted.listen_port, "protocol": "TCP", **moved}
        )
    for action in _actions_by_port(container):
        if action.get("port") == wanted.port:
            action["port"] = mta.port


def probe_by_proof(spec: dict[str, Any], mta: Mta, wanted: Annotations) -> None:
    """Probes of the MTA's port ask the sidecar for its last proof, where kubelet's own would fail, or meet the sidecar: the port is on
    loopback, wants PROXY, is none at all, or is redirected. Where the hand-off is not known yet they stay: there is no proof."""
    if wanted.handoff is None or mta.port is None:
        return
    if wanted.handoff is Handoff.PLAIN and wanted.intercept is not Intercept.REDIRECT:
        return
    for container in all_containers(spec):
        own = container is spec["containers"][mta.container]
        for probe in _probes(container):
            socket = probe.get("tcpSocket") or {}
            # One that names another host means something else.
            meant = (mta.port, wanted.port) if own else (mta.port,)
            if not socket.get("host") and socket.get("port") in meant:
                del probe["tcpSocket"]
                probe["httpGet"] = {"path": "/upstream", "port": names.HEALTH_PORT, "scheme": "HTTP"}


def _probes(container: Any) -> Iterator[dict[str, Any]]:
    for name in _PROBES:
        if container.get(name):
            yield container[name]


def _actions_by_port(container: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Parts of probes and hooks that name a port."""
    hooks = (container.get("lifecycle") or {}).values()
    for handler in (*_probes(container), *hooks):
        for kind in ("httpGet", "tcpSocket"):
            if (handler or {}).get(kind):
                yield handler[kind]
