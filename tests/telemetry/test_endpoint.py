"""Where OTLP goes, and by which protocol; which sidecar speaks."""

from __future__ import annotations

import pytest
from postwarden.telemetry.endpoint import OtlpProtocol, parse_endpoint
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
