"""The status of a ScreeningPolicy: what the operator says of it. A part of the same schema as the spec."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from postwarden_operator.policy.part import Part

MAX_CONDITIONS = 8

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
    """Accepted, ResolvedRefs or Programmed."""
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


class ScreeningPolicyStatus(Part):
    """What became of a policy."""

    observed_generation: Count | None = None
    """The generation of the spec that this status is about."""
    revision: Annotated[str, Field(max_length=64)] | None = None
    """Hash of the spec and of its lists' content, as last compiled."""
    sidecars: Sidecars | None = None
    """How far the policy has come."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=MAX_CONDITIONS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()
    """Accepted: the policy is valid and its own pods' first choice. ResolvedRefs: its lists could be read. Programmed: every
    sidecar has it in force."""
