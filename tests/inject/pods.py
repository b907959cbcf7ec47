"""Hypothesis strategies: pods that could be an MTA's, with and without sense."""

from typing import Any

from hypothesis import strategies as st
from postwarden_operator.inject.annotations import PREFIX

_words = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
_port_names = st.sampled_from(["smtp", "smtps", "mail", "http", "milter", "smtp-upstream"])
_numbers = st.sampled_from([25, 587, 2525, 8080, 10025, 10026])

_actions = st.one_of(
    st.builds(lambda port: {"tcpSocket": {"port": port}}, _port_names | _numbers),
    st.builds(lambda port: {"httpGet": {"path": "/", "port": port}}, _port_names | _numbers),
    st.builds(lambda port: {"grpc": {"port": port}}, _numbers),
    st.builds(lambda word: {"exec": {"command": [word]}}, _words),
)
_probes = st.builds(lambda action, period: {**action, "periodSeconds": period}, _actions, st.integers(1, 60))


@st.composite
def _ports(draw: st.DrawFn) -> list[dict[str, Any]]:
    named = draw(st.lists(_port_names, max_size=3, unique=True))
    return [
        {
            "name": name,
            "containerPort": draw(_numbers),
            **draw(st.sampled_from([{}, {"hostPort": 25}, {"protocol": "UDP"}, {"protocol": "TCP"}])),
        }
        for name in named
    ]


@st.composite
def _container(draw: st.DrawFn, name: str) -> dict[str, Any]:
    optional = {
        "ports": _ports(),
        "livenessProbe": _probes,
        "readinessProbe": _probes,
        "startupProbe": _probes,
        "lifecycle": st.fixed_dictionaries({}, optional={"preStop": _actions, "postStart": _actions}),
        "volumeMounts": st.just([{"name": "queue", "mountPath": "/var/spool/postfix"}]),
    }
    return {"name": name, "image": draw(_words), **draw(st.fixed_dictionaries({}, optional=optional))}


_annotation_values: dict[str, st.SearchStrategy[str]] = {
    "intercept": st.sampled_from(["port", "redirect", "none", "magic"]),
    "port": _port_names,
    "listen-port": st.sampled_from(["10025", "12025", "25"]),
    "handoff": st.sampled_from(["Plain", "ProxyV2", "Pass"]),
    "drain-delay": st.sampled_from(["0s", "1500ms", "1m"]),
    "pre-stop": st.sampled_from(["Sleep", "None"]),
    "socket-volume": st.sampled_from(["queue", "queue:public", "other"]),
    "on-error": st.sampled_from(["Refuse", "Unscreened"]),
    "typo": _words,
}


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    """Most can be injected."""
    count = draw(st.integers(1, 3))
    containers = [draw(_container(f"c{number}")) for number in range(count)]
    if draw(st.integers(0, 3)):  # mostly there is one port of that name
        for container in containers:
            container["ports"] = [
                port for port in container.get("ports", ()) if port["name"] not in ("smtp", "smtp-upstream")
            ]
        containers[0]["ports"].append({"name": "smtp", "containerPort": draw(_numbers)})
    spec: dict[str, Any] = {"containers": containers}
    further: dict[str, st.SearchStrategy[Any]] = {
        "terminationGracePeriodSeconds": st.integers(0, 300),
        "hostNetwork": st.sampled_from([False, False, False, True]),
        "securityContext": st.just({"fsGroup": 101}),
        "volumes": st.just([{"name": "queue", "emptyDir": {}}]),
        "initContainers": st.just([{"name": "prepare", "image": "busybox"}]),
    }
    spec |= draw(st.fixed_dictionaries({}, optional=further))
    annotations = draw(st.fixed_dictionaries({}, optional=_annotation_values))
    metadata: dict[str, Any] = {"name": "mta", "labels": {"postwarden.dev/inject": "true"}}
    if annotations:
        metadata["annotations"] = {PREFIX + name: value for name, value in annotations.items()}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
