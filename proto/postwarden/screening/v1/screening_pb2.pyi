import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HandoffState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HANDOFF_STATE_UNSPECIFIED: _ClassVar[HandoffState]
    HANDOFF_STATE_PROVED: _ClassVar[HandoffState]
    HANDOFF_STATE_UNPROVED: _ClassVar[HandoffState]
    HANDOFF_STATE_WRONG_ANSWER: _ClassVar[HandoffState]
    HANDOFF_STATE_OPEN_RELAY: _ClassVar[HandoffState]
    HANDOFF_STATE_UPSTREAM_EXPOSED: _ClassVar[HandoffState]

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
HANDOFF_STATE_UNSPECIFIED: HandoffState
HANDOFF_STATE_PROVED: HandoffState
HANDOFF_STATE_UNPROVED: HandoffState
HANDOFF_STATE_WRONG_ANSWER: HandoffState
HANDOFF_STATE_OPEN_RELAY: HandoffState
HANDOFF_STATE_UPSTREAM_EXPOSED: HandoffState
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

class SidecarMessage(_message.Message):
    __slots__ = ("hello", "ack", "nack", "handoff")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    HANDOFF_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    ack: Ack
    nack: Nack
    handoff: HandoffReport
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., nack: _Optional[_Union[Nack, _Mapping]] = ..., handoff: _Optional[_Union[HandoffReport, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("mode", "access", "pregreet", "upstream", "listener", "session", "telemetry")
    MODE_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    PREGREET_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    mode: Mode
    access: Access
    pregreet: Pregreet
    upstream: Upstream
    listener: Listener
    session: Session
    telemetry: Telemetry
    def __init__(self, mode: _Optional[_Union[Mode, str]] = ..., access: _Optional[_Union[Access, _Mapping]] = ..., pregreet: _Optional[_Union[Pregreet, _Mapping]] = ..., upstream: _Optional[_Union[Upstream, _Mapping]] = ..., listener: _Optional[_Union[Listener, _Mapping]] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., telemetry: _Optional[_Union[Telemetry, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("ipv4", "ipv6")
    IPV4_FIELD_NUMBER: _ClassVar[int]
    IPV6_FIELD_NUMBER: _ClassVar[int]
    ipv4: _containers.RepeatedScalarFieldContainer[str]
    ipv6: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ipv4: _Optional[_Iterable[str]] = ..., ipv6: _Optional[_Iterable[str]] = ...) -> None: ...

class AccessRule(_message.Message):
    __slots__ = ("field", "table")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    field: str
    table: AddressTable
    def __init__(self, field: _Optional[str] = ..., table: _Optional[_Union[AddressTable, _Mapping]] = ...) -> None: ...

class Pregreet(_message.Message):
    __slots__ = ("action", "wait_ms", "banner", "ttl_ms")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    BANNER_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    action: Action
    wait_ms: int
    banner: str
    ttl_ms: int
    def __init__(self, action: _Optional[_Union[Action, str]] = ..., wait_ms: _Optional[int] = ..., banner: _Optional[str] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("proxy_trusted", "proxy_timeout_ms")
    PROXY_TRUSTED_FIELD_NUMBER: _ClassVar[int]
    PROXY_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    proxy_trusted: AddressTable
    proxy_timeout_ms: int
    def __init__(self, proxy_trusted: _Optional[_Union[AddressTable, _Mapping]] = ..., proxy_timeout_ms: _Optional[int] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("hostname",)
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    def __init__(self, hostname: _Optional[str] = ...) -> None: ...

class Telemetry(_message.Message):
    __slots__ = ("log_format",)
    LOG_FORMAT_FIELD_NUMBER: _ClassVar[int]
    log_format: LogFormat
    def __init__(self, log_format: _Optional[_Union[LogFormat, str]] = ...) -> None: ...
