"""What `helm test` asks, in a pod with the operator's image: do the operator and its webhook answer?

Contract: exits 0 when all answer, with a certificate by the CA; 1 with a line that says what did not. Settings are environment variables:
CONTROL and WEBHOOK (HOST:PORT; the latter may be missing), CA (a file, PEM), PATIENCE (seconds until it gives up).
"""

import json
import os
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
from postwarden.screening.v1.screening_pb2 import Hello, SidecarMessage
from postwarden.screening.v1.screening_pb2_grpc import ScreeningControlStub

TIMEOUT = 5.0
"""Seconds for one answer."""

PAUSE = 1.0
"""Seconds between two attempts."""

REVIEW = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {
        "uid": "b3b1f4b2-0b0e-4a50-9f1c-4d5f6a7b8c9d",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "dryRun": True,
        "namespace": "default",
        "userInfo": {"username": "helm-test"},
        "object": {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "helm-test", "namespace": "default"},
            "spec": {"containers": [{"name": "any", "image": "any"}]},
        },
    },
}
"""Of a pod that asks for no sidecar."""


class NoAnswer(Exception):
    """What was asked, and what came instead."""


def ask_control(address: str, authority: bytes) -> None:
    """A stream without a token is refused for that, by an operator that has read the cluster. Raises NoAnswer."""
    hello = SidecarMessage(hello=Hello(sidecar_version="helm-test"))
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(authority)) as channel:
        try:
            for _ in ScreeningControlStub(channel).Subscribe(iter([hello]), timeout=TIMEOUT):
                raise NoAnswer(f"{address} serves somebody who has no token")
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise NoAnswer(
                    f"the operator at {address}: {error.code().name}: {error.details()}"
                ) from error


def ask_webhook(address: str, authority: bytes) -> None:
    """It lets a pod through that asks for no sidecar. Raises NoAnswer."""
    context = ssl.create_default_context(cadata=authority.decode("ascii"))
    request = urllib.request.Request(
        f"https://{address}/inject", json.dumps(REVIEW).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as reply:  # noqa: S310  # https
            response = json.load(reply)["response"]
        if response["uid"] != REVIEW["request"]["uid"] or response["allowed"] is not True:  # type: ignore[index]
            raise NoAnswer(f"the webhook at {address} does not let an ordinary pod through: {response}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoAnswer(f"the webhook at {address}: {type(error).__name__}: {error}") from error


def main() -> None:
    patience = time.monotonic() + float(os.environ.get("PATIENCE", "60"))
    asked: list[tuple[Callable[[str, bytes], None], str]] = [(ask_control, os.environ["CONTROL"])]
    if webhook := os.environ.get("WEBHOOK"):
        asked.append((ask_webhook, webhook))
    for ask, address in asked:
        while True:
            try:
                ask(address, Path(os.environ["CA"]).read_bytes())
                break
            except (NoAnswer, OSError) as error:
                if time.monotonic() > patience:
                    sys.exit(str(error))
            time.sleep(PAUSE)
        print(f"{address} answers", flush=True)  # noqa: T201  # its output


if __name__ == "__main__":
    main()
