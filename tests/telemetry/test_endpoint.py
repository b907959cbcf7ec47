"""Where OTLP goes, and by which protocol; which sidecar speaks."""

from __future__ import annotations

import pytest
from postwarden.telemetry.endpoint import OtlpProtocol, parse_endpoint, wanted_endpoint
from postwarden.telemetry.resource import from_environment, resource


@pytest.mark.parametrize(
    ("url", "asked", "environ", "protocol"),
    [
        ("http://collector:4317", None, {}, "grpc"),
        ("http://collector:4318", None, {}, "http/protobuf"),
        ("https://collector/otlp/", None, {}, "http/protobuf"),
        ("http://collector", None, {}, "grpc"),
        ("http://collector:4318", None, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc"),
        ("http://collector:4317", "http/protobuf", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
    ],
)
def test_the_protocol_is_asked_for_or_told_by_the_url(
    url: str, asked: OtlpProtocol | None, environ: dict[str, str], protocol: str
) -> None:
    endpoint = parse_endpoint(url, asked, environ)
    assert (endpoint.protocol, endpoint.url) == (protocol, url.rstrip("/"))


@pytest.mark.parametrize(
    "url", ["collector:4317", "tcp://collector:4317", "http://", "http://collector:port", "http://[::1"]
)
def test_an_endpoint_that_is_no_url_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(ValueError, match=r"^OTLP endpoint .*write it as http://HOST:PORT"):
        parse_endpoint(url, None, {})


def test_a_password_in_an_endpoint_is_refused_and_not_quoted() -> None:
    with pytest.raises(ValueError, match="give these by OTEL_EXPORTER_OTLP_HEADERS") as refused:
        parse_endpoint("http://user:geheim@collector:4317", None, {})
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    ("flag", "environ", "url"),
    [
        (None, {}, None),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:4317"}, "http://other:4317"),
        ("http://flag:4317", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:4317"}, "http://flag:4317"),
        ("http://flag:4317", {"OTEL_SDK_DISABLED": "True"}, None),
    ],
)
def test_the_flag_goes_before_the_usual_variable(
    flag: str | None, environ: dict[str, str], url: str | None
) -> None:
    endpoint = wanted_endpoint(flag, None, environ)
    assert (endpoint.url if endpoint is not None else None) == url


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match="OTEL_EXPORTER_OTLP_PROTOCOL='http/json' is not known here; use grpc or http/protobuf",
    ):
        parse_endpoint("http://collector:4317", None, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"})


def test_the_resource_tells_the_pod() -> None:
    told = from_environment({"POD_NAME": "mx-0", "POD_NAMESPACE": "mail", "NODE_NAME": "", "HOME": "/"})
    assert told == {"k8s.pod.name": "mx-0", "k8s.namespace.name": "mail"}
    first, second = (
        resource("postwarden-sidecar", told).attributes,
        resource("postwarden-sidecar", told).attributes,
    )
    assert first["service.name"] == "postwarden-sidecar"
    assert first["k8s.pod.name"] == "mx-0"
    assert first["service.instance.id"] != second["service.instance.id"]


def test_what_the_usual_variables_say_of_the_resource_goes_before_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "OTEL_RESOURCE_ATTRIBUTES",
        "deployment.environment.name=test,service.instance.id=one,k8s.pod.name=own",
    )
    found = resource("postwarden-sidecar", {"k8s.pod.name": "mx-0", "k8s.node.name": "n"}).attributes
    assert (found["service.name"], found["service.instance.id"]) == ("postwarden-sidecar", "one")
    assert (found["deployment.environment.name"], found["k8s.pod.name"]) == ("test", "own")
    assert found["k8s.node.name"] == "n"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mx")
    assert resource("postwarden-sidecar", {}).attributes["service.name"] == "mx"
