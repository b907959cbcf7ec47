"""The gRPC server that sidecars subscribe to."""
