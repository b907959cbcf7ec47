"""The part of a ScreeningPolicy on lists in the DNS. Conventions as in `model`."""

from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, Strict

from postwarden_operator.policy.cross_field import DNSBL_SITE_RULES, TTL_BOUNDS_RULES
from postwarden_operator.policy.formats import ConfigMapKeyName, ObjectName, Ttl, Wait
from postwarden_operator.policy.part import CrossFieldRule, Part
from postwarden_operator.policy.smtp_formats import Label, ReplyFilterText, Resolver, Zone
from postwarden_operator.policy.vocabulary import DOCUMENTED_DEFAULT, Action

LARGEST_SCORE = 1_000_000
"""Of a weight or a threshold: 32 sites of it fit into 32 bits."""

USED_FOR = "postwarden.dev/used-for"
"""The annotation by which a Secret allows its use."""


class SecretKeyRef(Part):
    """A key of a Secret in the policy's namespace."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    name: ObjectName
    """The Secret's name, in the policy's namespace. Its annotation `postwarden.dev/used-for` must name the end of the zone, like
    `dq.spamhaus.net`: else whoever may write a policy could send any Secret to any name server."""
    key: ConfigMapKeyName
    """The key in its `data`."""


class KeyFrom(Part):
    """Where the key for a zone comes from."""

    secret_key_ref: SecretKeyRef
    """A key of a Secret."""


class DnsblSite(Part):
    """One list, with one filter."""

    RULES: ClassVar[tuple[CrossFieldRule, ...]] = DNSBL_SITE_RULES

    zone: Zone
    """The list's domain, like `zen.spamhaus.org`; it is asked once, even if several sites have it. `{key}`, a label of it, is replaced by
    the key of `keyFrom`."""
    replies: ReplyFilterText | None = Field(
        default=None, json_schema_extra={DOCUMENTED_DEFAULT: "127.0.0.0/8 less 127.255.255.0/24"}
    )
    """Which answers count: four octets, each a number or a list in brackets, like `127.0.0.[2..11]` or `127.0.[0;1].[2;4..6]`."""
    weight: Annotated[int, Strict(), Field(ge=-LARGEST_SCORE, le=LARGEST_SCORE)] = 1
    """What a client that is listed scores. Negative for a list of good clients."""
    label: Label | None = Field(default=None, json_schema_extra={DOCUMENTED_DEFAULT: "the zone"})
    """The name by which clients are told of the list. The zone's key never shows."""
    key_from: KeyFrom | None = None
    """The key that replaces `{key}` in `zone`, for lists that want one in their names."""


class TtlBounds(Part):
    """How long what the lists said is kept."""

    RULES: ClassVar[tuple[CrossFieldRule, ...]] = TTL_BOUNDS_RULES

    min: Ttl = "60s"
    """At least so long."""
    max: Ttl = "1h"
    """At most so long; between the two the lists' own TTL counts."""


class Dnsbl(Part):
    """The test by lists in the DNS."""

    action: Action = Action.ENFORCE
    """What is done with a client whose score reaches `threshold`. Ignore: it is logged. Enforce: 550 for each recipient, after helo, sender
    and recipient are logged. Drop: 521 at once."""
    threshold: Annotated[int, Strict(), Field(ge=1, le=LARGEST_SCORE)] = 1
    """The score, the sum of the weights of the sites that list the client, from which on it fails."""
    allow_threshold: Annotated[int, Strict(), Field(ge=-LARGEST_SCORE, le=0)] = 0
    """The score down to which a client passes all tests that are not finished. 0 turns this off."""
    timeout: Wait = "10s"
    """How long to wait for an answer. A list that does not answer scores nothing."""
    ttl: TtlBounds = Field(default_factory=TtlBounds)
    """How long a client that passed is not tested again."""
    resolvers: Annotated[tuple[Resolver, ...], Field(max_length=8)] = Field(
        default=(), json_schema_extra={DOCUMENTED_DEFAULT: "the pod's own"}
    )
    """Name servers to ask, `HOST:PORT`, in order. Lists refuse the large public resolvers; one of your own is best."""
    sites: Annotated[tuple[DnsblSite, ...], Field(max_length=32)] = ()
    """The lists. None: the test is off."""
