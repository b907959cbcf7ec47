"""The names, ports and paths that an injected pod has in common with the sidecar's image, the chart and the documentation."""

CONTAINER = "postwarden-sidecar"
"""Our native sidecar. A pod that has a container of this name is not injected again."""

CONTAINERS = frozenset({CONTAINER, "postwarden"})
"""What the sidecar's container is called in pods of any release: before there was an injection it was wired by hand under the other name,
and such pods run on when the operator is upgraded."""

REDIRECT_CONTAINER = "postwarden-redirect"
"""The init container that redirects the MTA's port, in `redirect` mode."""

INJECT_LABEL = "postwarden.dev/inject"
"""Every screened pod carries it, with the value `true`."""

NOT_INJECTED = "postwarden.dev/not-injected"
"""The annotation that a pod gets which starts unscreened: why."""

TOKEN_VOLUME, STATE_VOLUME = "postwarden-token", "postwarden-state"
TOKEN_DIRECTORY, TOKEN_FILE = "/var/run/secrets/postwarden", "token"
STATE_DIRECTORY = "/var/lib/postwarden"
SOCKET_DIRECTORY = "/var/run/postwarden/mta"
"""Where `socket-volume` is mounted in the sidecar."""

TOKEN_AUDIENCE = "postwarden.dev"  # noqa: S105  (no password)
TOKEN_LIFETIME = 3600
"""Seconds. Kubelet writes a new token when four fifths are over; the shortest that it knows is 600."""

LISTEN_PORT, HEALTH_PORT, METRICS_PORT, ADMIN_PORT = 10025, 10026, 10027, 10028
"""Where the sidecar listens; ADMIN_PORT on the pod's loopback address only."""

REDIRECT_PROOF_PORT = 10029
"""In `redirect` mode: nothing listens there, but the rule that takes clients to the sidecar takes this port to its health endpoint."""

SMTP_PORT = 25
"""Of an MTA whose pod does not name its port (RFC 5321, section 4.5.4.2)."""

UPSTREAM_PORT_NAME = "smtp-upstream"
"""What the MTA's port is called, once its name is the sidecar's."""

HOST_PORT_NAME = "smtp-host"
"""The port of the MTA's container by which its hostPort leads to the sidecar."""

SIDECAR_PORT_NAME = "postwarden-smtp"
"""The sidecar's port, where the MTA's keeps its name."""

USER = 65532
"""The sidecar's uid and gid, distroless' `nonroot`. Set in the pod, too: kubelet can't see that a user by name is not root."""
