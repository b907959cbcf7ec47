"""Where OTLP goes, by which of its two protocols, and which signals."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

OtlpProtocol = Literal["grpc", "http/protobuf"]
Signal = Literal["traces", "metrics", "logs"]
PROTOCOL_VARIABLE = "OTEL_EXPORTER_OTLP_PROTOCOL"
ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
DISABLED_VARIABLE = "OTEL_SDK_DISABLED"
HTTP_PORT = 4318  # OTLP/HTTP's default port (OTLP specification); 4317 is gRPC's


@dataclass(frozen=True, slots=True)
class Endpoint:
    """url: as given, without a slash at its end; for http/protobuf the signals' paths (`/v1/traces`) come behind it. unwanted:
    signals that are not to be sent, for a backend that takes traces alone."""

    url: str
    protocol: OtlpProtocol
    unwanted: frozenset[Signal] = frozenset()


def wanted_endpoint(
    flag: str | None, protocol: OtlpProtocol | None, environ: Mapping[str, str]
) -> Endpoint | None:
    """Of --otlp-endpoint, else of OTEL_EXPORTER_OTLP_ENDPOINT in environ; None: no OTLP. Otherwise as parse_endpoint."""
    url = flag or environ.get(ENDPOINT_VARIABLE)
    if not url or environ.get(DISABLED_VARIABLE, "").lower() == "true":
        return None
    return parse_endpoint(url, protocol, environ)


def parse_endpoint(url: str, protocol: OtlpProtocol | None, environ: Mapping[str, str]) -> Endpoint:
    """protocol: None chooses by OTEL_EXPORTER_OTLP_PROTOCOL in environ, else http/protobuf for port 4318 or a URL with a path, else
    grpc. OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER and OTEL_LOGS_EXPORTER with the value `none` turn a signal off.
    Raises ValueError with one sentence."""
    if "@" in url:  # it is not quoted: the warnings would show the password
        raise ValueError(
            "the OTLP endpoint has a user or password in it; write it as http://HOST:PORT and give these by OTEL_EXPORTER_OTLP_HEADERS"
        )
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"OTLP endpoint {url!r}: {error}; write it as http://HOST:PORT") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"OTLP endpoint {url!r} is no URL; write it as http://HOST:PORT or https://HOST:PORT"
        )
    asked = protocol or environ.get(PROTOCOL_VARIABLE)
    if not asked:
        asked = "http/protobuf" if port == HTTP_PORT or parts.path.strip("/") else "grpc"
    if asked not in get_args(OtlpProtocol):
        known = " or ".join(get_args(OtlpProtocol))
        raise ValueError(f"{PROTOCOL_VARIABLE}={asked!r} is not known here; use {known}")
    unwanted = {each for each in get_args(Signal) if environ.get(f"OTEL_{each.upper()}_EXPORTER") == "none"}
    return Endpoint(url.rstrip("/"), cast(OtlpProtocol, asked), frozenset(unwanted))
