"""The sidecar: answers port 25, screens clients, hands the good ones to the MTA."""
