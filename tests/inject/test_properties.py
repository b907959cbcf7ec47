"""What holds of every pod, whatever its user wrote."""

import copy
from typing import Any

from hypothesis import assume, given, settings
from inject.golden import SETTINGS
from inject.pods import pods
from postwarden_operator.inject import Injection, inject
from postwarden_operator.inject.mta import all_containers

_MAY_CHANGE = {"ports", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle"}
_OURS = {"postwarden-sidecar", "postwarden-redirect"}

FEWER = settings(max_examples=40)
"""A pod takes 20 ms to draw."""


def injected(pod: dict[str, Any]) -> dict[str, Any]:
    before = copy.deepcopy(pod)
    result = inject(pod, "mail", SETTINGS)
    assert pod == before
    assume(isinstance(result, Injection))
    assert isinstance(result, Injection)
    return dict(result.pod)


@given(pods())
@FEWER
def test_second_injection_changes_nothing(pod: dict[str, Any]) -> None:
    once = injected(pod)
    assert injected(once) == once


@given(pods())
@FEWER
def test_names_of_ports_containers_and_volumes_stay_unique(pod: dict[str, Any]) -> None:
    assume(_unique(pod))
    assert _unique(injected(pod))


def _unique(pod: dict[str, Any]) -> bool:
    spec = pod["spec"]
    names: list[list[object]] = [
        # A Service looks for name and protocol.
        [
            (port["name"], port.get("protocol", "TCP"))
            for each in all_containers(spec)
            for port in each.get("ports", ())
        ],
        [each["name"] for each in all_containers(spec)],
        [each["name"] for each in spec.get("volumes", ())],
    ]
    return all(len(each) == len(set(each)) for each in names)


@given(pods())
@FEWER
def test_nothing_that_the_user_wrote_is_lost(pod: dict[str, Any]) -> None:
    after = injected(pod)
    assert after["metadata"]["labels"] == pod["metadata"]["labels"]
    kept = pod["metadata"].get("annotations", {}).items()
    assert kept <= after["metadata"].get("annotations", {}).items()
    before_spec, spec = pod["spec"], after["spec"]
    for field in before_spec.keys() - {
        "containers",
        "initContainers",
        "volumes",
        "terminationGracePeriodSeconds",
    }:
        assert spec[field] == before_spec[field]
    for field in ("initContainers", "volumes"):
        own = before_spec.get(field, [])
        assert spec.get(field, [])[: len(own)] == own
    for old, new in zip(before_spec["containers"], spec["containers"], strict=True):
        assert {key: value for key, value in old.items() if key not in _MAY_CHANGE} == {
            key: value for key, value in new.items() if key not in _MAY_CHANGE
        }
        assert [port["containerPort"] for port in old.get("ports", ())] == [
            port["containerPort"] for port in new.get("ports", ()) if port["name"] != "smtp-host"
        ]
        assert _host_ports(old) == _host_ports(new)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert (probe in old) == (probe in new)
            assert old.get(probe, {}).get("periodSeconds") == new.get(probe, {}).get("periodSeconds")
        had = old.get("lifecycle", {}).keys()
        assert had <= new.get("lifecycle", {}).keys()
    assert spec.get("terminationGracePeriodSeconds", 0) >= before_spec.get("terminationGracePeriodSeconds", 0)


def _host_ports(container: dict[str, Any]) -> list[int]:
    return [port["hostPort"] for port in container.get("ports", ()) if "hostPort" in port]


@given(pods())
@FEWER
def test_every_port_that_a_probe_or_hook_names_is_there(pod: dict[str, Any]) -> None:
    """As far as it was before: the API server does not look, kubelet does."""
    after = injected(pod)
    for old, new in zip(pod["spec"]["containers"], after["spec"]["containers"], strict=True):
        assert _dangling(new) <= _dangling(old)


def _dangling(container: dict[str, Any]) -> set[object]:
    named = {port["name"] for port in container.get("ports", ())}
    probes = [container.get(each) for each in ("startupProbe", "livenessProbe", "readinessProbe")]
    handlers = [*probes, *container.get("lifecycle", {}).values()]
    asked = {
        handler[kind]["port"]
        for handler in handlers
        for kind in ("tcpSocket", "httpGet")
        if handler and kind in handler
    }
    return {port for port in asked if isinstance(port, str) and port not in named}


@given(pods())
@FEWER
def test_pod_is_screened_or_says_why_not(pod: dict[str, Any]) -> None:
    result = inject(pod, "mail", SETTINGS)
    if isinstance(result, Injection):
        screened = any(each["name"] in _OURS for each in all_containers(result.pod["spec"]))
        told = result.pod["metadata"].get("annotations", {}).get("postwarden.dev/not-injected")
        wished = pod["metadata"].get("annotations", {}).get("postwarden.dev/on-error") == "Unscreened"
        assert screened != (told is not None)
        assert told is None or (wished and any("UNSCREENED" in each for each in result.warnings))
    else:
        assert "can't be screened" in result.message


def test_pod_without_the_label_is_left_alone() -> None:
    pod = {
        "metadata": {"name": "web", "annotations": {"postwarden.dev/port": "?"}},
        "spec": {"containers": []},
    }
    assert inject(pod, "mail", SETTINGS) == Injection(pod)


def test_mirror_of_a_static_pod_is_left_alone() -> None:
    metadata = {
        "labels": {"postwarden.dev/inject": "true"},
        "annotations": {"kubernetes.io/config.mirror": "x"},
    }
    pod = {"metadata": metadata, "spec": {"containers": []}}
    assert inject(pod, "mail", SETTINGS) == Injection(pod)
