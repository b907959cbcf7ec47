"""ScreeningPolicy `postwarden.dev/v1alpha1`: the one source of its fields, defaults, descriptions and bounds.

Contract: the CRD, the editors' JSON schema, the reference table and the messages all come from these classes (see `schema`). A
field is here only once it works. A docstring under a field is its description everywhere. Text kinds are in `formats`.
"""

from datetime import UTC, datetime
from typing import Annotated, ClassVar

from pydantic import AfterValidator, ConfigDict, Field, Strict

from postwarden_operator.policy.cross_field import LIST_FROM_RULES, RULE_RULES, UPSTREAM_RULES
from postwarden_operator.policy.dnsbl import Dnsbl
from postwarden_operator.policy.formats import (
    Banner,
    ConfigMapKeyName,
    NetworkText,
    ObjectName,
    Port,
    SocketPath,
    Ttl,
    Wait,
)
from postwarden_operator.policy.limits import Cache, Limits, Stress
from postwarden_operator.policy.part import CrossFieldRule, Part
from postwarden_operator.policy.protocol import Protocol
from postwarden_operator.policy.selector import LabelSelector
from postwarden_operator.policy.session import Exemptions, Session
from postwarden_operator.policy.telemetry import Telemetry
from postwarden_operator.policy.vocabulary import (
    DOCUMENTED_DEFAULT,
    AccessAction,
    Action,
    Handoff,
    ListFormat,
    Mode,
)

GROUP = "postwarden.dev"
VERSION = "v1alpha1"
KIND = "ScreeningPolicy"
DEFAULT_UPSTREAM_PORT = 25
"""SMTP's (RFC 5321, section 4.5.4.2)."""


class ConfigMapKeyRef(Part):
    """A key of a ConfigMap in the policy's namespace."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    name: ObjectName
    """The ConfigMap's name, in the policy's namespace. It needs the label `postwarden.dev/watch: "true"`."""
    key: ConfigMapKeyName
    """The key in its `data` or `binaryData`; binaryData may be gzip."""


class ListSource(Part):
    """One of the parts of a list."""

    config_map_key_ref: ConfigMapKeyRef
    """A key of a ConfigMap."""


class ListFrom(Part):
    """Where a list comes from and how it is written."""

    RULES: ClassVar[tuple[CrossFieldRule, ...]] = LIST_FROM_RULES

    config_map_key_ref: ConfigMapKeyRef | None = None
    """The key of a ConfigMap that holds the list; or give `sources`."""
    sources: Annotated[tuple[ListSource, ...], Field(min_length=1, max_length=64)] | None = None
    """Several keys, joined in this order before they are read, for lists that one ConfigMap does not hold."""
    format: ListFormat = ListFormat.PLAIN
    """Plain: one address or network a line, `#` begins a comment. PostfixCIDR: Postfix's cidr_table(5), where each line has its own
    action: permit, reject or dunno."""


class AccessRule(Part):
    """An entry of the access list."""

    RULES: ClassVar[tuple[CrossFieldRule, ...]] = RULE_RULES

    action: AccessAction | None = None
    """Permit: straight to the mail server, no test. Reject: access.rejectAction. Dunno: look no further, go on with the tests. Left out
    for a PostfixCIDR list, where each line has its own."""
    cidrs: Annotated[tuple[NetworkText, ...], Field(min_length=1, max_length=1024)] | None = None
    """Addresses and networks, IPv4 and IPv6; or give `listFrom`."""
    list_from: ListFrom | None = None
    """A list in ConfigMaps; or give `cidrs`."""


class Access(Part):
    """Decisions by address alone."""

    my_networks: Annotated[tuple[NetworkText, ...], Field(max_length=1024)] = ("127.0.0.0/8", "::1/128")
    """Clients from here are permitted, before all rules."""
    reject_action: Action = Action.ENFORCE
    """What is done with a rejected client. Ignore: it is logged and goes on to the tests. Enforce: 550 for each recipient, after helo,
    sender and recipient are logged. Drop: 521 at once."""
    rules: Annotated[tuple[AccessRule, ...], Field(max_length=64)] = ()
    """The access list, in order: the first match wins."""


class Pregreet(Part):
    """The test for clients that talk before they have been greeted."""

    action: Action = Action.ENFORCE
    """What is done with a client that talks before its turn. Ignore: it is logged. Enforce: 550 for each recipient, after helo, sender
    and recipient are logged. Drop: 521 at once."""
    wait: Wait = "6s"
    """How long a client must stay silent after the first line of the greeting."""
    stress_wait: Wait = "2s"
    """The same under stress (see `stress`); never longer than `wait`."""
    banner: Banner | None = Field(default=None, json_schema_extra={DOCUMENTED_DEFAULT: "the upstream's"})
    """The text of that first line. "" turns the test off."""
    ttl: Ttl = "24h"
    """How long a client that passed is not tested again."""


class Upstream(Part):
    """The mail server behind the sidecar."""

    RULES: ClassVar[tuple[CrossFieldRule, ...]] = UPSTREAM_RULES

    port: Port | None = Field(
        default=None, json_schema_extra={DOCUMENTED_DEFAULT: str(DEFAULT_UPSTREAM_PORT)}
    )
    """The mail server's port on the pod's loopback address; or give `socket`."""
    socket: SocketPath | None = None
    """The path of the mail server's UNIX socket; or give `port`."""
    handoff: Handoff
    """How the mail server learns the client's address. Plain: not at all. ProxyV1, ProxyV2: by a PROXY header, which it must expect. Pass:
    it gets the connection itself, at the socket of a `pass` service of Postfix."""

    @property
    def target_port(self) -> int | None:
        """The port, where the target is no socket."""
        return None if self.socket is not None else self.port or DEFAULT_UPSTREAM_PORT


class ProxyProtocol(Part):
    """The PROXY protocol of a load balancer in front."""

    trusted: Annotated[tuple[NetworkText, ...], Field(max_length=256)] = ()
    """Networks of load balancers whose PROXY header is believed, and required."""
    timeout: Wait = "5s"
    """How long to wait for that header."""


class Listener(Part):
    """How clients reach the sidecar."""

    proxy_protocol: ProxyProtocol = Field(default_factory=ProxyProtocol)
    """The PROXY protocol, versions 1 and 2, of a load balancer in front."""
    pass_addresses: Annotated[tuple[NetworkText, ...], Field(max_length=64)] = Field(
        default=(), json_schema_extra={DOCUMENTED_DEFAULT: "all"}
    )
    """Our own addresses at which a client may earn its pass. A client that connects to another one only is tested again each time, and
    turned away: who tries the backup mail exchanger first is a zombie (postscreen's MX policy test)."""


class ScreeningPolicySpec(Part):
    """What a policy asks for."""

    selector: LabelSelector
    """Which pods of this namespace are screened by this policy; `{}` means all. Of several policies for one pod the oldest wins."""
    mode: Mode = Mode.ENFORCE
    """Enforce: do it. Observe: only say what would be done; every action acts as Ignore."""
    access: Access = Field(default_factory=Access)
    """Who is let in or turned away by address alone."""
    pregreet: Pregreet = Field(default_factory=Pregreet)
    """The test for clients that talk before they have been greeted."""
    dnsbl: Dnsbl = Field(default_factory=Dnsbl)
    """The test by lists in the DNS."""
    protocol: Protocol = Field(default_factory=Protocol)
    """The tests after the greeting."""
    upstream: Upstream | None = None
    """Where the mail server is and how clients are handed to it. Left out: as the sidecar was started."""
    listener: Listener = Field(default_factory=Listener)
    """How clients reach the sidecar."""
    session: Session = Field(default_factory=Session)
    """How the sidecar itself speaks SMTP."""
    exemptions: Exemptions = Field(default_factory=Exemptions)
    """Recipients that everybody may write to."""
    limits: Limits = Field(default_factory=Limits)
    """How many connections a pod takes."""
    stress: Stress = Field(default_factory=Stress)
    """When the sidecar is short of room: stressWait and stressCommandTimeLimit are in force then."""
    cache: Cache = Field(default_factory=Cache)
    """How passes are kept."""
    telemetry: Telemetry = Field(default_factory=Telemetry)
    """How decisions are reported."""


def _in_utc(time: datetime) -> datetime:
    """YAML readers give a time with `Z` as one without a zone."""
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


class Metadata(Part):
    """Of an object's metadata, what we need. uid, generation and creation_timestamp are the API server's."""

    name: ObjectName
    namespace: ObjectName = "default"
    uid: Annotated[str, Strict()] = ""
    generation: Annotated[int, Strict()] = 0
    creation_timestamp: Annotated[datetime, AfterValidator(_in_utc)] | None = None


class ScreeningPolicy(Part):
    """A valid policy."""

    metadata: Metadata
    spec: ScreeningPolicySpec
