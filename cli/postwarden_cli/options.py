"""Option types that commands share: addresses as people write them, checked where they are given."""

from __future__ import annotations

import socket

import click


class HostPort(click.ParamType[tuple[str, int]]):
    """`HOST:PORT`; an IPv6 address in brackets. Converts to (IP address, port)."""

    name = "HOST:PORT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Fails with one sentence that says what was expected."""
        if isinstance(value, tuple):
            return value
        host, colon, port = str(value).rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            self.fail(f"{value!r}: an IPv6 address is written in brackets, as in [::1]:2525", param, ctx)
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            self.fail(f"{value!r} is not HOST:PORT, as in 127.0.0.1:2525", param, ctx)
        try:
            # A name is looked up once, here; IPv4 first, as `localhost` is most often meant so.
            found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self.fail(f"{value!r}: the host {host!r} can't be looked up: {error}", param, ctx)
        address = min(found, key=lambda entry: entry[0] != socket.AF_INET)[4]
        return str(address[0]), int(port)


class UpstreamTarget(click.ParamType[str]):
    """`HOST:PORT` or `unix:PATH`. Converts to that text, normalised."""

    name = "HOST:PORT|unix:PATH"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails with one sentence that says what was expected."""
        text = str(value)
        if text.startswith("unix:"):
            if not text[5:].startswith("/"):
                self.fail(f"{text!r}: give the socket's absolute path, as in unix:/run/mta.sock", param, ctx)
            return text
        host, port = HostPort().convert(text, param, ctx)
        if port == 0:
            self.fail(f"{text!r}: port 0 is no port to connect to", param, ctx)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
