"""gRPC takes an option that it does not know without a word."""

from pathlib import Path

import grpc._cython.cygrpc
import pytest
from postwarden_operator.controlplane import peers_client, server
from postwarden_sidecar.controlclient import stream
from postwarden_sidecar.controlclient.target import ControlTarget

LIBRARY = Path(grpc._cython.cygrpc.__file__).read_bytes()


@pytest.mark.parametrize(
    "option",
    sorted(
        {
            *(name for name, _ in server.OPTIONS),
            *(name for name, _ in peers_client.OPTIONS),
            *(name for name, _ in stream.CHANNEL_OPTIONS),
            *(
                name
                for name, _ in ControlTarget(address="127.0.0.1:1", token="t", ca_pem=b"").keepalive_options
            ),
        }
    ),
)
def test_option_is_one_that_grpc_knows(option: str) -> None:
    assert option.encode() + b"\0" in LIBRARY
