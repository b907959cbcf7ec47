"""The status of a ScreeningPolicy: what the operator says of it. A part of the same schema as the spec."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from postwarden_operator.policy.part import Part
from postwarden_operator.policy.smtp_formats import LONGEST_ZONE

MAX_CONDITIONS = 8

LONGEST_DNSBL_DETAIL = 1024
"""Characters: more than a sidecar's report has."""

Count = Annotated[int, Field(ge=0)]


class Sidecars(Part):
    """How many sidecars are where."""

    matched: Count = 0
    """Running pods with our sidecar for which this policy is in force."""
    synced: Count = 0
    """Those that have applied this revision, in every worker."""
    pending: Count = 0
    """Those that have not answered yet."""
    rejected: Count = 0
    """Those that refused it, or whose hand-off to the mail server is not proved."""
    disconnected: Count = 0
    """Those that no operator hears from."""
    summary: Annotated[str, Field(max_length=32)] = "0/0"
    """synced and matched, for a table: 9/10."""


class Condition(Part):
    """As Kubernetes' metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    """Accepted, ResolvedRefs, Programmed, DNSBLHealthy or Intercepted."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: Count = 0
    """The generation of the spec that was judged."""
    last_transition_time: datetime
    """When status last changed."""
    reason: Annotated[str, Field(max_length=1024, min_length=1)]
    """Why, in one word."""
    message: Annotated[str, Field(max_length=32768)]
    """Why, for people."""


class DnsblHealth(Part):
    """How a DNS list is doing, as the sidecars see it."""

    zone: Annotated[str, Field(max_length=LONGEST_ZONE)]
    """The list's domain, as the policy has it."""
    state: Literal["Healthy", "Blocked", "Unreachable", "ListsWorld"]
    """The worst that any sidecar reports. Blocked: the list refuses the resolver. ListsWorld: it lists what no list may hold; it is not
    asked until it is well."""
    since: datetime
    """When the state last changed."""
    affected: Count = 0
    """How many sidecars report that state; 0 for Healthy."""
    detail: Annotated[str, Field(max_length=LONGEST_DNSBL_DETAIL)] = ""
    """What one of them saw."""


class ScreeningPolicyStatus(Part):
    """What became of a policy."""

    observed_generation: Count | None = None
    """The generation of the spec that this status is about."""
    revision: Annotated[str, Field(max_length=64)] | None = None
    """Hash of the spec, its lists' content and its Secrets' versions, as last compiled."""
    sidecars: Sidecars | None = None
    """How far the policy has come."""
    dnsbl_health: Annotated[
        tuple[DnsblHealth, ...],
        Field(
            max_length=32,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["zone"]},
        ),
    ] = ()
    """How the lists in `spec.dnsbl.sites` are doing, as far as sidecars have reported."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=MAX_CONDITIONS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()
    """Accepted: the policy is valid and its own pods' first choice. ResolvedRefs: its lists could be read. Programmed: every
    sidecar has it in force. DNSBLHealthy: every DNS list answers as it should. Intercepted: no Service leads past the sidecars."""
