"""`python -m bench.otlp_sink`: an OTLP endpoint (gRPC) that takes everything and looks at nothing; it prints its URL and runs until its
standard input ends. A process of its own, so that what it costs is outside the measured group.
"""

import sys
from concurrent import futures

import grpc

SERVICES = ("trace.v1.TraceService", "metrics.v1.MetricsService", "logs.v1.LogsService")
THREADS = 4


def _take(request: bytes, context: grpc.ServicerContext) -> bytes:
    """An empty message is the answer that all was taken."""
    return b""


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(THREADS))
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_take)
    names = [f"opentelemetry.proto.collector.{service}" for service in SERVICES]
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(name, {"Export": handler}) for name in names]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"http://127.0.0.1:{port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
