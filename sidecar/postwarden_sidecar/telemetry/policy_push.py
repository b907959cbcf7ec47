"""What a sidecar says of a policy that came: the last span in the trace of its change."""

from __future__ import annotations

from dataclasses import dataclass

from postwarden_sidecar.telemetry.escape import MAX_REASON, printable


@dataclass(frozen=True, slots=True)
class PolicyPush:
    """traceparent: the operator's. start: when it came; end: when every worker had applied it, or it was refused; epoch seconds.
    refused: why, else ""."""

    traceparent: str
    start: float
    end: float
    namespace: str
    name: str
    revision: str
    refused: str = ""

    @property
    def reason(self) -> str:
        """Escaped."""
        return printable(self.refused, MAX_REASON)

    def attributes(self) -> dict[str, str]:
        """As a connection's span names the same."""
        return {
            "postwarden.policy.namespace": printable(self.namespace),
            "postwarden.policy.name": printable(self.name),
            "postwarden.policy.revision": printable(self.revision),
        }
