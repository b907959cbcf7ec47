"""Where OTLP goes, and by which protocol; which sidecar speaks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from postwarden.telemetry.endpoint import OtlpProtocol, Signal, parse_endpoint, wanted_endpoints
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
    assert (endpoint.protocol, endpoint.url) == (protocol, url)


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
    endpoints = wanted_endpoints(flag, None, environ)
    assert {endpoint.url for endpoint in endpoints.values()} == ({url} if url else set())


OWN_TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
OWN_METRICS = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
OWN_LOGS = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"


@pytest.mark.parametrize(
    ("common", "environ", "urls"),
    [
        (
            "http://c:4318/",
            {},
            {"traces": "http://c:4318/v1/traces", "metrics": "http://c:4318/v1/metrics", "logs": "http://c:4318/v1/logs"},
        ),
        ("http://c:4317", {}, dict.fromkeys(("traces", "metrics", "logs"), "http://c:4317")),
        (None, {OWN_TRACES: "http://t:4318"}, {"traces": "http://t:4318"}),
        (None, {OWN_TRACES: "http://t:4318/v1/traces/"}, {"traces": "http://t:4318/v1/traces/"}),
        (
            "http://c:4317",
            {OWN_METRICS: "https://m/otlp", OWN_LOGS: ""},
            {"traces": "http://c:4317", "metrics": "https://m/otlp", "logs": "http://c:4317"},
        ),
        (None, {OWN_METRICS: "https://m/otlp", "OTEL_METRICS_EXPORTER": "none"}, {}),
        (None, {OWN_LOGS: "http://l:4317", "OTEL_SDK_DISABLED": "true"}, {}),
    ],
)  # fmt: skip
def test_a_signals_own_endpoint_goes_before_that_of_all_and_is_used_as_it_is(
    common: str | None, environ: dict[str, str], urls: dict[Signal, str]
) -> None:
    found = wanted_endpoints(common, None, environ)
    assert {signal: endpoint.url + endpoint.path for signal, endpoint in found.items()} == urls
    usual = {**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": common} if common else environ
    by_variable = wanted_endpoints(None, None, usual)
    assert {signal: replace(each, source="") for signal, each in by_variable.items()} == {
        signal: replace(each, source="") for signal, each in found.items()
    }
    for signal, each in found.items():
        own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
        assert each.source == (own if environ.get(own) else "--otlp-endpoint")
        assert by_variable[signal].source == (own if environ.get(own) else "OTEL_EXPORTER_OTLP_ENDPOINT")


def test_a_signals_own_protocol_goes_before_that_of_all() -> None:
    environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    found = wanted_endpoints("http://c:4318", None, {**environ, OWN_LOGS: "http://l:4318"})
    assert {signal: endpoint.protocol for signal, endpoint in found.items()} == {
        "traces": "http/protobuf",
        "metrics": "grpc",
        "logs": "grpc",
    }
    assert found["traces"].path == "/v1/traces"


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({OWN_TRACES: "jaeger:4317"}, f"^{OWN_TRACES} 'jaeger:4317' is no URL; write it as http://HOST:PORT"),
        ({OWN_LOGS: "http://h:65536"}, f"^{OWN_LOGS} 'http://h:65536': .*; write it as http://HOST:PORT"),
        (
            {OWN_METRICS: "http://u:geheim@m:4317"},
            f"^{OWN_METRICS} has a user or password in it; (?!.*geheim)",
        ),
        (
            {OWN_LOGS: "http://l:4317", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "udp"},
            "^OTEL_EXPORTER_OTLP_LOGS_PROTOCOL='udp' is not known here; use grpc or http/protobuf",
        ),
    ],
)
def test_a_signals_own_variable_that_cannot_be_is_refused_by_its_name(
    environ: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        wanted_endpoints("http://collector:4317", None, environ)


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
