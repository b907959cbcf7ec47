"""Telemetry that comes soon: for the environment of our programs, whose spans and log records are gathered for 5 s else."""

QUICK_BATCHES = {"OTEL_BSP_SCHEDULE_DELAY": "1000", "OTEL_BLRP_SCHEDULE_DELAY": "1000"}

AS_INSTALLED = ("env", *(f"--unset={name}" for name in QUICK_BATCHES))
"""Before a command: as users have it, for measurements."""
