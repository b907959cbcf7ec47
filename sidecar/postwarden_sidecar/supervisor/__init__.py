"""The process that owns sockets, workers, stream, stores and telemetry."""
