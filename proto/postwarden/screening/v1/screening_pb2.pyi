import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SyncState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SYNC_STATE_UNSPECIFIED: _ClassVar[SyncState]
    SYNC_STATE_SYNCED: _ClassVar[SyncState]
    SYNC_STATE_PENDING: _ClassVar[SyncState]
    SYNC_STATE_REJECTED: _ClassVar[SyncState]

class HandoffState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HANDOFF_STATE_UNSPECIFIED: _ClassVar[HandoffState]
    HANDOFF_STATE_PROVED: _ClassVar[HandoffState]
    HANDOFF_STATE_UNPROVED: _ClassVar[HandoffState]
    HANDOFF_STATE_WRONG_ANSWER: _ClassVar[HandoffState]
    HANDOFF_STATE_OPEN_RELAY: _ClassVar[HandoffState]
    HANDOFF_STATE_UPSTREAM_EXPOSED: _ClassVar[HandoffState]

class DnsblState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DNSBL_STATE_UNSPECIFIED: _ClassVar[DnsblState]
    DNSBL_STATE_HEALTHY: _ClassVar[DnsblState]
    DNSBL_STATE_BLOCKED: _ClassVar[DnsblState]
    DNSBL_STATE_UNREACHABLE: _ClassVar[DnsblState]
    DNSBL_STATE_LISTS_WORLD: _ClassVar[DnsblState]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_ENFORCE: _ClassVar[Mode]
    MODE_OBSERVE: _ClassVar[Mode]

class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_UNSPECIFIED: _ClassVar[Action]
    ACTION_IGNORE: _ClassVar[Action]
    ACTION_ENFORCE: _ClassVar[Action]
    ACTION_DROP: _ClassVar[Action]

class AccessAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCESS_ACTION_UNSPECIFIED: _ClassVar[AccessAction]
    ACCESS_ACTION_PERMIT: _ClassVar[AccessAction]
    ACCESS_ACTION_REJECT: _ClassVar[AccessAction]
    ACCESS_ACTION_DUNNO: _ClassVar[AccessAction]

class Handoff(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HANDOFF_UNSPECIFIED: _ClassVar[Handoff]
    HANDOFF_PLAIN: _ClassVar[Handoff]
    HANDOFF_PROXY_V1: _ClassVar[Handoff]
    HANDOFF_PROXY_V2: _ClassVar[Handoff]
    HANDOFF_PASS: _ClassVar[Handoff]

class LogFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOG_FORMAT_UNSPECIFIED: _ClassVar[LogFormat]
    LOG_FORMAT_JSON: _ClassVar[LogFormat]
    LOG_FORMAT_POSTSCREEN: _ClassVar[LogFormat]
    LOG_FORMAT_POSTSCREEN_LEGACY: _ClassVar[LogFormat]

class Handover(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HANDOVER_UNSPECIFIED: _ClassVar[Handover]
    HANDOVER_INLINE: _ClassVar[Handover]
    HANDOVER_RECONNECT: _ClassVar[Handover]

class EnvelopeAddresses(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENVELOPE_ADDRESSES_UNSPECIFIED: _ClassVar[EnvelopeAddresses]
    ENVELOPE_ADDRESSES_FULL: _ClassVar[EnvelopeAddresses]
    ENVELOPE_ADDRESSES_HASHED: _ClassVar[EnvelopeAddresses]
    ENVELOPE_ADDRESSES_OMITTED: _ClassVar[EnvelopeAddresses]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_ALLOWLISTED: _ClassVar[Verdict]
    VERDICT_PASS_OLD: _ClassVar[Verdict]
    VERDICT_PASS_NEW: _ClassVar[Verdict]
    VERDICT_TOLERATED: _ClassVar[Verdict]
    VERDICT_EXEMPTED: _ClassVar[Verdict]
    VERDICT_UNSCREENED: _ClassVar[Verdict]
    VERDICT_REJECTED: _ClassVar[Verdict]
    VERDICT_DROPPED: _ClassVar[Verdict]
    VERDICT_HANGUP: _ClassVar[Verdict]
    VERDICT_DEFERRED: _ClassVar[Verdict]
    VERDICT_OVERLOADED: _ClassVar[Verdict]
    VERDICT_ERROR: _ClassVar[Verdict]
SYNC_STATE_UNSPECIFIED: SyncState
SYNC_STATE_SYNCED: SyncState
SYNC_STATE_PENDING: SyncState
SYNC_STATE_REJECTED: SyncState
HANDOFF_STATE_UNSPECIFIED: HandoffState
HANDOFF_STATE_PROVED: HandoffState
HANDOFF_STATE_UNPROVED: HandoffState
HANDOFF_STATE_WRONG_ANSWER: HandoffState
HANDOFF_STATE_OPEN_RELAY: HandoffState
HANDOFF_STATE_UPSTREAM_EXPOSED: HandoffState
DNSBL_STATE_UNSPECIFIED: DnsblState
DNSBL_STATE_HEALTHY: DnsblState
DNSBL_STATE_BLOCKED: DnsblState
DNSBL_STATE_UNREACHABLE: DnsblState
DNSBL_STATE_LISTS_WORLD: DnsblState
MODE_UNSPECIFIED: Mode
MODE_ENFORCE: Mode
MODE_OBSERVE: Mode
ACTION_UNSPECIFIED: Action
ACTION_IGNORE: Action
ACTION_ENFORCE: Action
ACTION_DROP: Action
ACCESS_ACTION_UNSPECIFIED: AccessAction
ACCESS_ACTION_PERMIT: AccessAction
ACCESS_ACTION_REJECT: AccessAction
ACCESS_ACTION_DUNNO: AccessAction
HANDOFF_UNSPECIFIED: Handoff
HANDOFF_PLAIN: Handoff
HANDOFF_PROXY_V1: Handoff
HANDOFF_PROXY_V2: Handoff
HANDOFF_PASS: Handoff
LOG_FORMAT_UNSPECIFIED: LogFormat
LOG_FORMAT_JSON: LogFormat
LOG_FORMAT_POSTSCREEN: LogFormat
LOG_FORMAT_POSTSCREEN_LEGACY: LogFormat
HANDOVER_UNSPECIFIED: Handover
HANDOVER_INLINE: Handover
HANDOVER_RECONNECT: Handover
ENVELOPE_ADDRESSES_UNSPECIFIED: EnvelopeAddresses
ENVELOPE_ADDRESSES_FULL: EnvelopeAddresses
ENVELOPE_ADDRESSES_HASHED: EnvelopeAddresses
ENVELOPE_ADDRESSES_OMITTED: EnvelopeAddresses
VERDICT_UNSPECIFIED: Verdict
VERDICT_ALLOWLISTED: Verdict
VERDICT_PASS_OLD: Verdict
VERDICT_PASS_NEW: Verdict
VERDICT_TOLERATED: Verdict
VERDICT_EXEMPTED: Verdict
VERDICT_UNSCREENED: Verdict
VERDICT_REJECTED: Verdict
VERDICT_DROPPED: Verdict
VERDICT_HANGUP: Verdict
VERDICT_DEFERRED: Verdict
VERDICT_OVERLOADED: Verdict
VERDICT_ERROR: Verdict

class WatchRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PeerUpdate(_message.Message):
    __slots__ = ("replica", "changed", "gone", "complete")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    replica: str
    changed: _containers.RepeatedCompositeFieldContainer[PeerState]
    gone: _containers.RepeatedScalarFieldContainer[str]
    complete: bool
    def __init__(self, replica: _Optional[str] = ..., changed: _Optional[_Iterable[_Union[PeerState, _Mapping]]] = ..., gone: _Optional[_Iterable[str]] = ..., complete: _Optional[bool] = ...) -> None: ...

class PeerState(_message.Message):
    __slots__ = ("pod_uid", "policy_uid", "revision", "state", "since", "reason", "unproved", "open_relay", "zones", "lost_address", "unsteered")
    POD_UID_FIELD_NUMBER: _ClassVar[int]
    POLICY_UID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    UNPROVED_FIELD_NUMBER: _ClassVar[int]
    OPEN_RELAY_FIELD_NUMBER: _ClassVar[int]
    ZONES_FIELD_NUMBER: _ClassVar[int]
    LOST_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    UNSTEERED_FIELD_NUMBER: _ClassVar[int]
    pod_uid: str
    policy_uid: str
    revision: str
    state: SyncState
    since: _timestamp_pb2.Timestamp
    reason: str
    unproved: bool
    open_relay: bool
    zones: _containers.RepeatedCompositeFieldContainer[DnsblReport]
    lost_address: str
    unsteered: str
    def __init__(self, pod_uid: _Optional[str] = ..., policy_uid: _Optional[str] = ..., revision: _Optional[str] = ..., state: _Optional[_Union[SyncState, str]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., unproved: _Optional[bool] = ..., open_relay: _Optional[bool] = ..., zones: _Optional[_Iterable[_Union[DnsblReport, _Mapping]]] = ..., lost_address: _Optional[str] = ..., unsteered: _Optional[str] = ...) -> None: ...

class SidecarMessage(_message.Message):
    __slots__ = ("hello", "ack", "nack", "handoff", "dnsbl", "lost_address", "trust", "steering")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    HANDOFF_FIELD_NUMBER: _ClassVar[int]
    DNSBL_FIELD_NUMBER: _ClassVar[int]
    LOST_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    STEERING_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    ack: Ack
    nack: Nack
    handoff: HandoffReport
    dnsbl: DnsblReport
    lost_address: LostAddressReport
    trust: TrustReport
    steering: SteeringReport
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., nack: _Optional[_Union[Nack, _Mapping]] = ..., handoff: _Optional[_Union[HandoffReport, _Mapping]] = ..., dnsbl: _Optional[_Union[DnsblReport, _Mapping]] = ..., lost_address: _Optional[_Union[LostAddressReport, _Mapping]] = ..., trust: _Optional[_Union[TrustReport, _Mapping]] = ..., steering: _Optional[_Union[SteeringReport, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("sidecar_version", "formats", "features", "revision", "version", "complete", "trust_expires")
    SIDECAR_VERSION_FIELD_NUMBER: _ClassVar[int]
    FORMATS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    TRUST_EXPIRES_FIELD_NUMBER: _ClassVar[int]
    sidecar_version: str
    formats: _containers.RepeatedScalarFieldContainer[str]
    features: _containers.RepeatedScalarFieldContainer[str]
    revision: str
    version: str
    complete: bool
    trust_expires: _timestamp_pb2.Timestamp
    def __init__(self, sidecar_version: _Optional[str] = ..., formats: _Optional[_Iterable[str]] = ..., features: _Optional[_Iterable[str]] = ..., revision: _Optional[str] = ..., version: _Optional[str] = ..., complete: _Optional[bool] = ..., trust_expires: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ControlMessage(_message.Message):
    __slots__ = ("snapshot", "unmanaged", "hold", "trust_bundle")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    UNMANAGED_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    TRUST_BUNDLE_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    unmanaged: Unmanaged
    hold: Hold
    trust_bundle: TrustBundle
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., unmanaged: _Optional[_Union[Unmanaged, _Mapping]] = ..., hold: _Optional[_Union[Hold, _Mapping]] = ..., trust_bundle: _Optional[_Union[TrustBundle, _Mapping]] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("policy_uid", "namespace", "name", "generation", "revision", "version", "nonce", "format", "required_features", "rules", "blobs", "traceparent")
    POLICY_UID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FEATURES_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    policy_uid: str
    namespace: str
    name: str
    generation: int
    revision: str
    version: str
    nonce: str
    format: str
    required_features: _containers.RepeatedScalarFieldContainer[str]
    rules: Rules
    blobs: _containers.RepeatedCompositeFieldContainer[Blob]
    traceparent: str
    def __init__(self, policy_uid: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., generation: _Optional[int] = ..., revision: _Optional[str] = ..., version: _Optional[str] = ..., nonce: _Optional[str] = ..., format: _Optional[str] = ..., required_features: _Optional[_Iterable[str]] = ..., rules: _Optional[_Union[Rules, _Mapping]] = ..., blobs: _Optional[_Iterable[_Union[Blob, _Mapping]]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class Unmanaged(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: str
    def __init__(self, nonce: _Optional[str] = ...) -> None: ...

class Hold(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class TrustBundle(_message.Message):
    __slots__ = ("pem",)
    PEM_FIELD_NUMBER: _ClassVar[int]
    pem: bytes
    def __init__(self, pem: _Optional[bytes] = ...) -> None: ...

class TrustReport(_message.Message):
    __slots__ = ("trust_expires",)
    TRUST_EXPIRES_FIELD_NUMBER: _ClassVar[int]
    trust_expires: _timestamp_pb2.Timestamp
    def __init__(self, trust_expires: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("nonce", "version")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    nonce: str
    version: str
    def __init__(self, nonce: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Nack(_message.Message):
    __slots__ = ("nonce", "reason", "version")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    nonce: str
    reason: str
    version: str
    def __init__(self, nonce: _Optional[str] = ..., reason: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class HandoffReport(_message.Message):
    __slots__ = ("state", "detail")
    STATE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    state: HandoffState
    detail: str
    def __init__(self, state: _Optional[_Union[HandoffState, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class DnsblReport(_message.Message):
    __slots__ = ("zone", "state", "detail")
    ZONE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    zone: str
    state: DnsblState
    detail: str
    def __init__(self, zone: _Optional[str] = ..., state: _Optional[_Union[DnsblState, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class LostAddressReport(_message.Message):
    __slots__ = ("address", "detail")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    address: str
    detail: str
    def __init__(self, address: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class SteeringReport(_message.Message):
    __slots__ = ("problem",)
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    problem: str
    def __init__(self, problem: _Optional[str] = ...) -> None: ...

class Blob(_message.Message):
    __slots__ = ("hash", "format", "size", "data")
    HASH_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    hash: str
    format: str
    size: int
    data: bytes
    def __init__(self, hash: _Optional[str] = ..., format: _Optional[str] = ..., size: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class BlobRequest(_message.Message):
    __slots__ = ("hash",)
    HASH_FIELD_NUMBER: _ClassVar[int]
    hash: str
    def __init__(self, hash: _Optional[str] = ...) -> None: ...

class BlobChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Rules(_message.Message):
    __slots__ = ("mode", "access", "pregreet", "upstream", "listener", "session", "telemetry", "dnsbl", "protocol", "dialogue", "limits", "cache", "exempt_recipients")
    MODE_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    PREGREET_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    DNSBL_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    DIALOGUE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    EXEMPT_RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    mode: Mode
    access: Access
    pregreet: Pregreet
    upstream: Upstream
    listener: Listener
    session: Session
    telemetry: Telemetry
    dnsbl: Dnsbl
    protocol: Protocol
    dialogue: Dialogue
    limits: Limits
    cache: Cache
    exempt_recipients: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, mode: _Optional[_Union[Mode, str]] = ..., access: _Optional[_Union[Access, _Mapping]] = ..., pregreet: _Optional[_Union[Pregreet, _Mapping]] = ..., upstream: _Optional[_Union[Upstream, _Mapping]] = ..., listener: _Optional[_Union[Listener, _Mapping]] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., telemetry: _Optional[_Union[Telemetry, _Mapping]] = ..., dnsbl: _Optional[_Union[Dnsbl, _Mapping]] = ..., protocol: _Optional[_Union[Protocol, _Mapping]] = ..., dialogue: _Optional[_Union[Dialogue, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., cache: _Optional[_Union[Cache, _Mapping]] = ..., exempt_recipients: _Optional[_Iterable[str]] = ...) -> None: ...

class Access(_message.Message):
    __slots__ = ("my_networks", "reject_action", "rules")
    MY_NETWORKS_FIELD_NUMBER: _ClassVar[int]
    REJECT_ACTION_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    my_networks: AddressTable
    reject_action: Action
    rules: _containers.RepeatedCompositeFieldContainer[AccessRule]
    def __init__(self, my_networks: _Optional[_Union[AddressTable, _Mapping]] = ..., reject_action: _Optional[_Union[Action, str]] = ..., rules: _Optional[_Iterable[_Union[AccessRule, _Mapping]]] = ...) -> None: ...

class AddressTable(_message.Message):
    __slots__ = ("ipv4", "ipv6", "ipv4_lines_before", "ipv6_lines_before")
    IPV4_FIELD_NUMBER: _ClassVar[int]
    IPV6_FIELD_NUMBER: _ClassVar[int]
    IPV4_LINES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    IPV6_LINES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    ipv4: _containers.RepeatedScalarFieldContainer[str]
    ipv6: _containers.RepeatedScalarFieldContainer[str]
    ipv4_lines_before: _containers.RepeatedScalarFieldContainer[int]
    ipv6_lines_before: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ipv4: _Optional[_Iterable[str]] = ..., ipv6: _Optional[_Iterable[str]] = ..., ipv4_lines_before: _Optional[_Iterable[int]] = ..., ipv6_lines_before: _Optional[_Iterable[int]] = ...) -> None: ...

class AccessRule(_message.Message):
    __slots__ = ("field", "table")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    field: str
    table: AddressTable
    def __init__(self, field: _Optional[str] = ..., table: _Optional[_Union[AddressTable, _Mapping]] = ...) -> None: ...

class Pregreet(_message.Message):
    __slots__ = ("action", "wait_ms", "banner", "ttl_ms", "stress_wait_ms")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    BANNER_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    STRESS_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    action: Action
    wait_ms: int
    banner: str
    ttl_ms: int
    stress_wait_ms: int
    def __init__(self, action: _Optional[_Union[Action, str]] = ..., wait_ms: _Optional[int] = ..., banner: _Optional[str] = ..., ttl_ms: _Optional[int] = ..., stress_wait_ms: _Optional[int] = ...) -> None: ...

class Dnsbl(_message.Message):
    __slots__ = ("action", "threshold", "allow_threshold", "timeout_ms", "ttl_min_ms", "ttl_max_ms", "resolvers", "sites")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    ALLOW_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    TTL_MIN_MS_FIELD_NUMBER: _ClassVar[int]
    TTL_MAX_MS_FIELD_NUMBER: _ClassVar[int]
    RESOLVERS_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    action: Action
    threshold: int
    allow_threshold: int
    timeout_ms: int
    ttl_min_ms: int
    ttl_max_ms: int
    resolvers: _containers.RepeatedScalarFieldContainer[str]
    sites: _containers.RepeatedCompositeFieldContainer[DnsblSite]
    def __init__(self, action: _Optional[_Union[Action, str]] = ..., threshold: _Optional[int] = ..., allow_threshold: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., ttl_min_ms: _Optional[int] = ..., ttl_max_ms: _Optional[int] = ..., resolvers: _Optional[_Iterable[str]] = ..., sites: _Optional[_Iterable[_Union[DnsblSite, _Mapping]]] = ...) -> None: ...

class DnsblSite(_message.Message):
    __slots__ = ("zone", "template", "replies", "weight", "label")
    ZONE_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    zone: str
    template: str
    replies: ReplyFilter
    weight: int
    label: str
    def __init__(self, zone: _Optional[str] = ..., template: _Optional[str] = ..., replies: _Optional[_Union[ReplyFilter, _Mapping]] = ..., weight: _Optional[int] = ..., label: _Optional[str] = ...) -> None: ...

class ReplyFilter(_message.Message):
    __slots__ = ("first", "second", "third", "fourth")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    THIRD_FIELD_NUMBER: _ClassVar[int]
    FOURTH_FIELD_NUMBER: _ClassVar[int]
    first: bytes
    second: bytes
    third: bytes
    fourth: bytes
    def __init__(self, first: _Optional[bytes] = ..., second: _Optional[bytes] = ..., third: _Optional[bytes] = ..., fourth: _Optional[bytes] = ...) -> None: ...

class Protocol(_message.Message):
    __slots__ = ("pipelining", "non_smtp_command", "bare_newline", "forbidden_commands", "handover")
    PIPELINING_FIELD_NUMBER: _ClassVar[int]
    NON_SMTP_COMMAND_FIELD_NUMBER: _ClassVar[int]
    BARE_NEWLINE_FIELD_NUMBER: _ClassVar[int]
    FORBIDDEN_COMMANDS_FIELD_NUMBER: _ClassVar[int]
    HANDOVER_FIELD_NUMBER: _ClassVar[int]
    pipelining: ProtocolTest
    non_smtp_command: ProtocolTest
    bare_newline: ProtocolTest
    forbidden_commands: _containers.RepeatedScalarFieldContainer[str]
    handover: Handover
    def __init__(self, pipelining: _Optional[_Union[ProtocolTest, _Mapping]] = ..., non_smtp_command: _Optional[_Union[ProtocolTest, _Mapping]] = ..., bare_newline: _Optional[_Union[ProtocolTest, _Mapping]] = ..., forbidden_commands: _Optional[_Iterable[str]] = ..., handover: _Optional[_Union[Handover, str]] = ...) -> None: ...

class ProtocolTest(_message.Message):
    __slots__ = ("enabled", "action", "ttl_ms")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    action: Action
    ttl_ms: int
    def __init__(self, enabled: _Optional[bool] = ..., action: _Optional[_Union[Action, str]] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class Upstream(_message.Message):
    __slots__ = ("port", "socket", "handoff")
    PORT_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    HANDOFF_FIELD_NUMBER: _ClassVar[int]
    port: int
    socket: str
    handoff: Handoff
    def __init__(self, port: _Optional[int] = ..., socket: _Optional[str] = ..., handoff: _Optional[_Union[Handoff, str]] = ...) -> None: ...

class Listener(_message.Message):
    __slots__ = ("proxy_trusted", "proxy_timeout_ms", "pass_addresses")
    PROXY_TRUSTED_FIELD_NUMBER: _ClassVar[int]
    PROXY_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    PASS_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    proxy_trusted: AddressTable
    proxy_timeout_ms: int
    pass_addresses: AddressTable
    def __init__(self, proxy_trusted: _Optional[_Union[AddressTable, _Mapping]] = ..., proxy_timeout_ms: _Optional[int] = ..., pass_addresses: _Optional[_Union[AddressTable, _Mapping]] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("hostname",)
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    def __init__(self, hostname: _Optional[str] = ...) -> None: ...

class Dialogue(_message.Message):
    __slots__ = ("command_time_limit_ms", "stress_command_time_limit_ms", "command_count_limit", "line_length_limit", "hello_required", "reject_footer", "hidden_extensions", "soft_fail")
    COMMAND_TIME_LIMIT_MS_FIELD_NUMBER: _ClassVar[int]
    STRESS_COMMAND_TIME_LIMIT_MS_FIELD_NUMBER: _ClassVar[int]
    COMMAND_COUNT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    LINE_LENGTH_LIMIT_FIELD_NUMBER: _ClassVar[int]
    HELLO_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    REJECT_FOOTER_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_EXTENSIONS_FIELD_NUMBER: _ClassVar[int]
    SOFT_FAIL_FIELD_NUMBER: _ClassVar[int]
    command_time_limit_ms: int
    stress_command_time_limit_ms: int
    command_count_limit: int
    line_length_limit: int
    hello_required: bool
    reject_footer: str
    hidden_extensions: _containers.RepeatedScalarFieldContainer[str]
    soft_fail: bool
    def __init__(self, command_time_limit_ms: _Optional[int] = ..., stress_command_time_limit_ms: _Optional[int] = ..., command_count_limit: _Optional[int] = ..., line_length_limit: _Optional[int] = ..., hello_required: _Optional[bool] = ..., reject_footer: _Optional[str] = ..., hidden_extensions: _Optional[_Iterable[str]] = ..., soft_fail: _Optional[bool] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("connections_per_client", "screening", "upstream", "prefix_ipv4", "prefix_ipv6", "stress_enter_percent", "stress_leave_percent")
    CONNECTIONS_PER_CLIENT_FIELD_NUMBER: _ClassVar[int]
    SCREENING_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    PREFIX_IPV4_FIELD_NUMBER: _ClassVar[int]
    PREFIX_IPV6_FIELD_NUMBER: _ClassVar[int]
    STRESS_ENTER_PERCENT_FIELD_NUMBER: _ClassVar[int]
    STRESS_LEAVE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    connections_per_client: int
    screening: int
    upstream: int
    prefix_ipv4: int
    prefix_ipv6: int
    stress_enter_percent: int
    stress_leave_percent: int
    def __init__(self, connections_per_client: _Optional[int] = ..., screening: _Optional[int] = ..., upstream: _Optional[int] = ..., prefix_ipv4: _Optional[int] = ..., prefix_ipv6: _Optional[int] = ..., stress_enter_percent: _Optional[int] = ..., stress_leave_percent: _Optional[int] = ...) -> None: ...

class Cache(_message.Message):
    __slots__ = ("retention_ms", "prefix_ipv4", "prefix_ipv6")
    RETENTION_MS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_IPV4_FIELD_NUMBER: _ClassVar[int]
    PREFIX_IPV6_FIELD_NUMBER: _ClassVar[int]
    retention_ms: int
    prefix_ipv4: int
    prefix_ipv6: int
    def __init__(self, retention_ms: _Optional[int] = ..., prefix_ipv4: _Optional[int] = ..., prefix_ipv6: _Optional[int] = ...) -> None: ...

class Telemetry(_message.Message):
    __slots__ = ("log_format", "sampling", "envelope_addresses")
    LOG_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    log_format: LogFormat
    sampling: _containers.RepeatedCompositeFieldContainer[Sampling]
    envelope_addresses: EnvelopeAddresses
    def __init__(self, log_format: _Optional[_Union[LogFormat, str]] = ..., sampling: _Optional[_Iterable[_Union[Sampling, _Mapping]]] = ..., envelope_addresses: _Optional[_Union[EnvelopeAddresses, str]] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("verdict", "percent", "max_per_second")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    MAX_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    percent: int
    max_per_second: int
    def __init__(self, verdict: _Optional[_Union[Verdict, str]] = ..., percent: _Optional[int] = ..., max_per_second: _Optional[int] = ...) -> None: ...
