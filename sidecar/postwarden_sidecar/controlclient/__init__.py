"""The sidecar's end of the control plane's stream."""
