"""Option types of `postwarden-sidecar`: each refuses what can't be used with one sentence that says what was
expected."""

from __future__ import annotations

import ipaddress
import re
from typing import TypeVar

import click

from postwarden_sidecar.net.addresses import is_loopback
from postwarden_sidecar.rules.settings import Handoff

MOST_NETWORKS = 256
"""As many as a policy may name."""

_Value = TypeVar("_Value")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?\Z")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


class _Type(click.ParamType[_Value]):
    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return self.name  # and not in capitals


class HostPort(_Type[tuple[str, int]]):
    """`HOST:PORT`; no host: all addresses; an IPv6 address in brackets. Converts to (host, port)."""

    name = "[HOST]:PORT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """See the module."""
        text = str(value)
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            self.fail(f"{text!r}: an IPv6 address is written in brackets, as in [::1]:10025", param, ctx)
        if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            self.fail(f"{text!r} is not HOST:PORT, as in 127.0.0.1:10025", param, ctx)
        return host, int(port)


class LoopbackPort(HostPort):
    """`[HOST]:PORT` of loopback; no host: 127.0.0.1. Converts to (host, port)."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """See the module."""
        host, port = super().convert(value, param, ctx)
        if not host:
            return "127.0.0.1", port
        if not is_loopback(host):
            self.fail(
                f"{str(value)!r} could be reached by others, and what is answered there is for those who may enter this pod or "
                f"machine: give loopback, as in 127.0.0.1:{port}",
                param,
                ctx,
            )
        return host, port


class UpstreamTarget(_Type[str]):
    """`HOST:PORT` or `unix:PATH`. Converts to the text of rules.settings.Upstream."""

    name = "HOST:PORT|unix:PATH"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See the module."""
        text = str(value)
        if text.startswith("unix:"):
            if not text.startswith("unix:/"):
                self.fail(f"{text!r}: give the socket's absolute path, as in unix:/run/mta.sock", param, ctx)
            return text
        host, port = HostPort().convert(text, param, ctx)
        if not host or not port:
            self.fail(f"{text!r} names no host and port to connect to, as in 127.0.0.1:25", param, ctx)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class HandoffName(_Type[Handoff]):
    """`plain`, `proxy-v1`, `proxy-v2`, `pass`, or as the policy writes them."""

    name = "plain|proxy-v1|proxy-v2|pass"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Handoff:
        """See the module."""
        names = {handoff.value.lower(): handoff for handoff in Handoff}
        handoff = names.get(str(value).lower().replace("-", ""))
        if handoff is None:
            self.fail(f"{value!r} is none of plain, proxy-v1, proxy-v2 and pass", param, ctx)
        return handoff


class Networks(_Type[tuple[str, ...]]):
    """`192.0.2.0/24,2001:db8::1`; separated by commas or blanks. Converts to as few networks as say the same, none within another."""

    name = "NETWORK,…"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """See the module."""
        if isinstance(value, tuple):
            return value
        v4: list[ipaddress.IPv4Network] = []
        v6: list[ipaddress.IPv6Network] = []
        for text in re.split(r"[,\s]+", str(value).strip()):
            try:
                network = ipaddress.ip_network(text)
            except ValueError as error:
                self.fail(f"{text!r} is no network, as in 192.0.2.0/24: {error}", param, ctx)
            if isinstance(network, ipaddress.IPv4Network):
                v4.append(network)
            else:
                v6.append(network)
        if len(v4) + len(v6) > MOST_NETWORKS:
            self.fail(
                f"{len(v4) + len(v6)} networks are given, at most {MOST_NETWORKS} are possible", param, ctx
            )
        return (*map(str, ipaddress.collapse_addresses(v4)), *map(str, ipaddress.collapse_addresses(v6)))


class Duration(_Type[float]):
    """`20s`, `500ms`, `2m`; a number alone is seconds. Converts to seconds."""

    name = "DURATION"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See the module."""
        match = _DURATION.match(str(value))
        if match is None:
            self.fail(f"{value!r} is no duration, as in 20s or 500ms", param, ctx)
        return float(match[1]) * _UNITS[match[2]]
