"""The containers and volumes that a pod gets. They comply with Pod Security's `restricted`, but for the init container of `redirect`.

Neither probe depends on rules, on the operator or on the MTA: a pod must start while any of them is away. There is no liveness probe: a
restart would cut every open session, and the supervisor itself replaces workers that hang.
"""

from typing import Any

from postwarden_operator.inject import names
from postwarden_operator.inject.annotations import Annotations, Intercept, SocketVolume
from postwarden_operator.inject.mta import Json, Mta
from postwarden_operator.inject.settings import InjectionSettings
from postwarden_operator.policy.vocabulary import Handoff

START_SECONDS = 60
"""For the sidecar to start; 1 s is usual, and a node that starts a hundred pods takes its time."""

_CONFINED: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def sidecar_container(
    spec: Json, mta: Mta, wanted: Annotations, settings: InjectionSettings
) -> dict[str, Any]:
    """The native sidecar."""
    # Redirected, kubelet comes from the node as clients do: by the rule, or not at all. So the MTA starts once it works, and a pod whose
    # rules somebody removed takes no more clients. It is a port of its own, for a probe of the MTA's would count as a client.
    redirected = wanted.intercept is Intercept.REDIRECT
    asked = names.REDIRECT_PROOF_PORT if redirected else names.HEALTH_PORT
    ready = {"httpGet": {"path": "/readyz", "port": asked, "scheme": "HTTP"}}
    mounts: list[dict[str, Any]] = [
        {"name": names.TOKEN_VOLUME, "mountPath": names.TOKEN_DIRECTORY, "readOnly": True},
        {"name": names.STATE_VOLUME, "mountPath": names.STATE_DIRECTORY},
    ]
    if wanted.socket_volume is not None:
        socket = wanted.socket_volume
        mount = {"name": socket.volume, "mountPath": names.SOCKET_DIRECTORY}
        mounts.append(mount | ({"subPath": socket.sub_path} if socket.sub_path else {}))
    name = wanted.port if wanted.intercept is Intercept.PORT else names.SIDECAR_PORT_NAME
    container: dict[str, Any] = {
        "name": names.CONTAINER,
        "image": settings.image,
        "args": ["run"],
        "restartPolicy": "Always",
        "env": _environment(spec, mta, wanted, settings),
        "ports": [{"name": name, "containerPort": wanted.listen_port, "protocol": "TCP"}],
        "startupProbe": {**ready, "periodSeconds": 1, "failureThreshold": START_SECONDS},
        "readinessProbe": {**ready, "periodSeconds": 5},
        "lifecycle": {"preStop": {"exec": {"command": ["postwarden-sidecar", "drain"]}}},
        "securityContext": {
            **_CONFINED,
            "runAsNonRoot": True,
            "runAsUser": names.USER,
            "runAsGroup": wanted.socket_group or names.USER,
        },
        "volumeMounts": mounts,
    }
    if settings.resources:
        container["resources"] = dict(settings.resources)
    if settings.pull_policy is not None:
        container["imagePullPolicy"] = settings.pull_policy
    return container


def redirect_container(mta: Mta, wanted: Annotations, settings: InjectionSettings) -> dict[str, Any]:
    """The init container that has the kernel send the MTA's clients to the sidecar. It needs NET_ADMIN, and root to hold it: Kubernetes
    gives a user other than root no ambient capabilities."""
    container: dict[str, Any] = {
        "name": names.REDIRECT_CONTAINER,
        "image": settings.image,
        "args": ["init-redirect"],
        "env": [
            {"name": "POSTWARDEN_LISTEN", "value": f":{wanted.listen_port}"},
            {"name": "POSTWARDEN_HEALTH", "value": f":{names.HEALTH_PORT}"},
            {"name": "POSTWARDEN_REDIRECT_PORT", "value": str(mta.port)},
            {"name": "POSTWARDEN_REDIRECT_PROOF_PORT", "value": str(names.REDIRECT_PROOF_PORT)},
        ],
        "securityContext": {
            **_CONFINED,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "runAsNonRoot": False,
            "runAsUser": 0,
            "runAsGroup": 0,
        },
    }
    if settings.resources:
        container["resources"] = dict(settings.resources)
    if settings.pull_policy is not None:
        container["imagePullPolicy"] = settings.pull_policy
    return container


def volumes() -> list[dict[str, Any]]:
    """Of the sidecar: its token, by which the operator knows the pod, and what it keeps over a restart of the container."""
    token = {
        "audience": names.TOKEN_AUDIENCE,
        "expirationSeconds": names.TOKEN_LIFETIME,
        "path": names.TOKEN_FILE,
    }
    return [
        {"name": names.TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": names.STATE_VOLUME, "emptyDir": {}},
    ]


def _environment(
    spec: Json, mta: Mta, wanted: Annotations, settings: InjectionSettings
) -> list[dict[str, Any]]:
    values = {
        "POSTWARDEN_LISTEN": f":{wanted.listen_port}",
        "POSTWARDEN_UPSTREAM": _upstream(spec, mta, wanted),
        "POSTWARDEN_HANDOFF": wanted.handoff,
        "POSTWARDEN_REDIRECT_PORT": mta.port if wanted.intercept is Intercept.REDIRECT else None,
        "POSTWARDEN_PROXY_TRUSTED": ",".join(wanted.proxy_trusted),
        "POSTWARDEN_WITHOUT_RULES": wanted.without_rules,
        "POSTWARDEN_DRAIN_DELAY": _seconds(wanted.drain_delay),
        "POSTWARDEN_DRAIN_TIMEOUT": _seconds(wanted.drain_timeout),
        "POSTWARDEN_HEALTH": f":{names.HEALTH_PORT}",
        "POSTWARDEN_METRICS": f":{names.METRICS_PORT}",
        "POSTWARDEN_ADMIN": f"127.0.0.1:{names.ADMIN_PORT}",
        "POSTWARDEN_STATE_DIR": names.STATE_DIRECTORY,
        "POSTWARDEN_CONTROL": settings.control,
        "POSTWARDEN_TOKEN_FILE": f"{names.TOKEN_DIRECTORY}/{names.TOKEN_FILE}",
        "POSTWARDEN_CA": settings.ca_pem,
        "POSTWARDEN_OTLP_ENDPOINT": settings.otlp_endpoint,
        "CONTAINER_NAME": names.CONTAINER,
    }
    fields = {
        "POSTWARDEN_POD_IP": "status.podIP",
        "POSTWARDEN_NODE_IP": "status.hostIP",
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_UID": "metadata.uid",
        "NODE_NAME": "spec.nodeName",
    }
    named: list[dict[str, Any]] = [
        {"name": name, "value": str(value)} for name, value in values.items() if value
    ]
    return named + [
        {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for name, path in fields.items()
    ]


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:g}s"


def _upstream(spec: Json, mta: Mta, wanted: Annotations) -> str | None:
    """While no policy says where the MTA is."""
    if wanted.handoff is Handoff.PASS and wanted.socket_volume is not None:
        return f"unix:{names.SOCKET_DIRECTORY}/{_socket(spec, mta, wanted.socket_volume)}"
    return None if mta.port is None else f"127.0.0.1:{mta.port}"


def _socket(spec: Json, mta: Mta, socket: SocketVolume) -> str:
    """Postfix's `public/smtpd`: of the queue directory, or of `public` if that is what is mounted."""
    mounts = spec["containers"][mta.container].get("volumeMounts") or ()
    where = next((each["mountPath"] for each in mounts if each.get("name") == socket.volume), "")
    seen = f"{where}/{socket.sub_path}".rstrip("/")
    return "smtpd" if seen.endswith("/public") else "public/smtpd"
