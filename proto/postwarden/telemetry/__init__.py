"""What the telemetry of the operator and of the sidecar have in common: OTLP and Prometheus, and readings of metrics for both.

Contract: knows neither of them. Only the two packages `telemetry` import it.
"""
