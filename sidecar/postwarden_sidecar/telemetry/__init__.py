"""Verdicts as traces, metrics and logs."""
