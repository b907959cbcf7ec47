"""Where OTLP goes, by which of its two protocols, and which signals."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

OtlpProtocol = Literal["grpc", "http/protobuf"]
Signal = Literal["traces", "metrics", "logs"]
FLAG = "--otlp-endpoint"
PREFIX = "OTEL_EXPORTER_OTLP_"
PROTOCOL_VARIABLE = f"{PREFIX}PROTOCOL"
ENDPOINT_VARIABLE = f"{PREFIX}ENDPOINT"
DISABLED_VARIABLE = "OTEL_SDK_DISABLED"
HTTP_PORT = 4318  # OTLP/HTTP's default port (OTLP specification); 4317 is gRPC's


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Of one signal. url: as given; of one for all signals without a slash at its end. path: comes behind it, `/v1/traces` for instance.
    source: the flag or variable that names it."""

    url: str
    protocol: OtlpProtocol
    path: str = ""
    source: str = FLAG


def wanted_endpoints(
    flag: str | None, protocol: OtlpProtocol | None, environ: Mapping[str, str]
) -> dict[Signal, Endpoint]:
    """Of the signals that are to be sent; none: no OTLP. Raises ValueError with one sentence.

    A signal goes where OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, _METRICS_ENDPOINT or _LOGS_ENDPOINT in environ says, to that very URL; else
    where all go, by --otlp-endpoint (flag) or OTEL_EXPORTER_OTLP_ENDPOINT. So do protocols. A variable without a value is none
    (OpenTelemetry's specification, "OTLP exporter configuration" and "Environment variables"). OTEL_TRACES_EXPORTER=none, and so on, turn a
    signal off, for a backend that does not take it, OTEL_SDK_DISABLED=true all."""
    if environ.get(DISABLED_VARIABLE, "").lower() == "true":
        return {}
    common = flag or environ.get(ENDPOINT_VARIABLE)
    found: dict[Signal, Endpoint] = {}
    for signal in get_args(Signal):
        name = signal.upper()
        if environ.get(f"OTEL_{name}_EXPORTER") == "none":
            continue
        protocols = _protocol_asked(environ, f"{PREFIX}{name}_PROTOCOL") or protocol
        if own := environ.get(f"{PREFIX}{name}_ENDPOINT"):
            found[signal] = parse_endpoint(own, protocols, environ, f"{PREFIX}{name}_ENDPOINT")
        elif common:
            endpoint = parse_endpoint(
                common.rstrip("/"), protocols, environ, FLAG if flag else ENDPOINT_VARIABLE
            )
            path = f"/v1/{signal}" if endpoint.protocol == "http/protobuf" else ""
            found[signal] = replace(endpoint, path=path)
    return found


def parse_endpoint(
    url: str, protocol: OtlpProtocol | None, environ: Mapping[str, str], source: str = FLAG
) -> Endpoint:
    """protocol: None chooses by OTEL_EXPORTER_OTLP_PROTOCOL in environ, else http/protobuf for port 4318 or a URL with a path, else
    grpc. source: the flag or variable that has it."""
    the, shown = ("the ", "OTLP endpoint") if source in (FLAG, ENDPOINT_VARIABLE) else ("", source)
    if "@" in url:  # it is not quoted: the warnings would show the password
        raise ValueError(
            f"{the}{shown} has a user or password in it; write it as http://HOST:PORT and give these by OTEL_EXPORTER_OTLP_HEADERS"
        )
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{shown} {url!r}: {error}; write it as http://HOST:PORT") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{shown} {url!r} is no URL; write it as http://HOST:PORT or https://HOST:PORT")
    asked = protocol or _protocol_asked(environ, PROTOCOL_VARIABLE)
    if not asked:
        asked = "http/protobuf" if port == HTTP_PORT or parts.path.strip("/") else "grpc"
    return Endpoint(url, asked, source=source)


def _protocol_asked(environ: Mapping[str, str], variable: str) -> OtlpProtocol | None:
    asked = environ.get(variable)
    if asked and asked not in get_args(OtlpProtocol):
        known = " or ".join(get_args(OtlpProtocol))
        raise ValueError(f"{variable}={asked!r} is not known here; use {known}")
    return cast(OtlpProtocol, asked) if asked else None
