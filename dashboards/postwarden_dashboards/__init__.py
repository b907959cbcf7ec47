"""Grafana dashboards and Prometheus alert rules, built from the metrics' own definitions: `python -m postwarden_dashboards.generate`."""
