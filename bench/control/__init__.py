"""How the control plane fares with a thousand sidecars: `make bench-control`."""
