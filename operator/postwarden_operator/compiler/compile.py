"""A valid policy and the content of its lists in, rules for the sidecars out.

Contract: pure and slow for large lists (about 10 s for a million lines): run it where nothing waits for it, and only for a revision
that is not compiled yet. Everything is resolved: the rules hold no default and no reference, only hashes of the blobs beside them.
"""

from collections.abc import Mapping

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_operator.compiler.content import (
    BlobContent,
    Compiled,
    CompileFailed,
    CompileReason,
    ListContent,
    Missing,
    NotLabelled,
)
from postwarden_operator.compiler.plain_list import parse_plain
from postwarden_operator.compiler.postfix_cidr import parse_postfix_cidr
from postwarden_operator.compiler.revision import revision_of, version_of
from postwarden_operator.compiler.rows import Rows, flatten
from postwarden_operator.compiler.sources import BadList, join
from postwarden_operator.compiler.table import blobs_of
from postwarden_operator.policy import (
    ConfigMapKey,
    FieldError,
    ScreeningPolicy,
    ScreeningPolicySpec,
    config_map_references,
)
from postwarden_operator.policy.duration import milliseconds
from postwarden_operator.policy.model import (
    AccessAction,
    AccessRule,
    Action,
    Handoff,
    ListFormat,
    ListFrom,
    LogFormat,
    Mode,
    Upstream,
)
from postwarden_operator.policy.network import parse_network
from postwarden_operator.policy.references import list_sources

WATCH_LABEL = "postwarden.dev/watch"
"""ConfigMaps without it (value "true") are not read: the operator asks the server for those that have it only."""

_MODES = {Mode.ENFORCE: pb.MODE_ENFORCE, Mode.OBSERVE: pb.MODE_OBSERVE}
_ACTIONS = {Action.IGNORE: pb.ACTION_IGNORE, Action.ENFORCE: pb.ACTION_ENFORCE, Action.DROP: pb.ACTION_DROP}
_ACCESS_ACTIONS = {
    AccessAction.PERMIT: pb.ACCESS_ACTION_PERMIT,
    AccessAction.REJECT: pb.ACCESS_ACTION_REJECT,
    AccessAction.DUNNO: pb.ACCESS_ACTION_DUNNO,
}
_HANDOFFS = {
    Handoff.PLAIN: pb.HANDOFF_PLAIN,
    Handoff.PROXY_V1: pb.HANDOFF_PROXY_V1,
    Handoff.PROXY_V2: pb.HANDOFF_PROXY_V2,
    Handoff.PASS: pb.HANDOFF_PASS,
}
_LOG_FORMATS = {
    LogFormat.JSON: pb.LOG_FORMAT_JSON,
    LogFormat.POSTSCREEN: pb.LOG_FORMAT_POSTSCREEN,
    LogFormat.POSTSCREEN_LEGACY: pb.LOG_FORMAT_POSTSCREEN_LEGACY,
}


def compile_policy(policy: ScreeningPolicy, lists: Mapping[ConfigMapKey, ListContent]) -> Compiled:
    """A key that `lists` does not have counts as Missing. Raises CompileFailed with the errors of all lists."""
    contents = _readable(policy, lists)
    blobs: dict[str, BlobContent] = {}
    rules = _rules(policy.spec, contents, blobs)
    revision = revision_of(policy, contents)
    return Compiled(rules, blobs, revision, version_of(revision), ())


def _readable(
    policy: ScreeningPolicy, lists: Mapping[ConfigMapKey, ListContent]
) -> dict[ConfigMapKey, bytes]:
    contents: dict[ConfigMapKey, bytes] = {}
    problems: list[tuple[CompileReason, FieldError]] = []
    for field, key in _references(policy):
        match lists.get(key, Missing()):
            case bytes(content):
                contents[key] = content
            case NotLabelled():
                fix = f"kubectl -n {policy.metadata.namespace} label configmap {key.name} {WATCH_LABEL}=true"
                problems.append(
                    (
                        "RefNotLabelled",
                        FieldError(
                            field, f'ConfigMap {key.name} lacks the label {WATCH_LABEL}: "true"; run {fix}'
                        ),
                    )
                )
            case Missing(keys):
                problems.append(("RefNotFound", FieldError(field, _not_found(policy, key, keys))))
    if problems:
        raise CompileFailed(problems[0][0], tuple(error for _, error in problems))
    return {key: contents[key] for key in sorted(config_map_references(policy))}


def _references(policy: ScreeningPolicy) -> list[tuple[str, ConfigMapKey]]:
    found = []
    for index, rule in enumerate(policy.spec.access.rules):
        if rule.list_from is None:
            continue
        several = rule.list_from.sources is not None
        for number, key in enumerate(list_sources(rule.list_from)):
            within = f"sources[{number}].configMapKeyRef" if several else "configMapKeyRef"
            found.append((f"{_rule_field(index)}.listFrom.{within}", key))
    return found


def _not_found(policy: ScreeningPolicy, key: ConfigMapKey, keys: tuple[str, ...] | None) -> str:
    if keys is None:
        return f"ConfigMap {key.name} does not exist in namespace {policy.metadata.namespace}; create it, or correct the name"
    return f"ConfigMap {key.name} has no key {key.key}; it has {', '.join(sorted(keys)) or 'none'}"


def _rule_field(index: int) -> str:
    return f"spec.access.rules[{index}]"


def _rules(
    spec: ScreeningPolicySpec, contents: Mapping[ConfigMapKey, bytes], blobs: dict[str, BlobContent]
) -> pb.Rules:
    proxy = spec.listener.proxy_protocol
    pregreet = pb.Pregreet(
        action=_ACTIONS[spec.pregreet.action],
        wait_ms=milliseconds(spec.pregreet.wait),
        banner=spec.pregreet.banner,
        ttl_ms=milliseconds(spec.pregreet.ttl),
    )
    return pb.Rules(
        mode=_MODES[spec.mode],
        access=pb.Access(
            my_networks=_table(_inline(spec.access.my_networks, pb.ACCESS_ACTION_PERMIT), blobs),
            reject_action=_ACTIONS[spec.access.reject_action],
            rules=_access_rules(spec.access.rules, contents, blobs),
        ),
        pregreet=pregreet,
        upstream=_upstream(spec.upstream) if spec.upstream is not None else None,
        listener=pb.Listener(
            proxy_trusted=_table(_inline(proxy.trusted, pb.ACCESS_ACTION_PERMIT), blobs),
            proxy_timeout_ms=milliseconds(proxy.timeout),
        ),
        session=pb.Session(hostname=spec.session.hostname or ""),
        telemetry=pb.Telemetry(log_format=_LOG_FORMATS[spec.telemetry.log_format]),
    )


def _upstream(upstream: Upstream) -> pb.Upstream:
    handoff = _HANDOFFS[upstream.handoff]
    if upstream.socket is not None:
        return pb.Upstream(socket=upstream.socket, handoff=handoff)
    return pb.Upstream(port=upstream.target_port, handoff=handoff)


def _access_rules(
    rules: tuple[AccessRule, ...], contents: Mapping[ConfigMapKey, bytes], blobs: dict[str, BlobContent]
) -> list[pb.AccessRule]:
    compiled: list[pb.AccessRule] = []
    errors: list[FieldError] = []
    for index, rule in enumerate(rules):
        field = _rule_field(index)
        action = _ACCESS_ACTIONS[rule.action] if rule.action is not None else pb.ACCESS_ACTION_UNSPECIFIED
        if rule.list_from is None:
            table = _table(_inline(rule.cidrs or (), action), blobs)
        else:
            try:
                table = _listed(rule.list_from, action, contents, blobs)
            except BadList as bad:
                errors += [FieldError(f"{field}.listFrom", error) for error in bad.errors]
                continue
        compiled.append(pb.AccessRule(field=field, table=table))
    if errors:
        raise CompileFailed("BadList", tuple(errors))
    return compiled


def _inline(networks: tuple[str, ...], action: int) -> Rows:
    rows = Rows()
    for text in networks:
        network = parse_network(text)
        rows.of(network.version).append((network.first, network.last, action, 0))
    return rows


def _listed(
    list_from: ListFrom, action: int, contents: Mapping[ConfigMapKey, bytes], blobs: dict[str, BlobContent]
) -> pb.AddressTable:
    joined = join([(str(key), contents[key]) for key in list_sources(list_from)])
    if list_from.format is ListFormat.PLAIN:
        return _table(parse_plain(joined, action), blobs)
    # A dunno line of Postfix's table goes on with the next rule, where a rule's own Dunno ends the search.
    return _table(parse_postfix_cidr(joined), blobs, left_out=pb.ACCESS_ACTION_DUNNO)


def _table(rows: Rows, blobs: dict[str, BlobContent], *, left_out: int | None = None) -> pb.AddressTable:
    hashes: dict[int, list[str]] = {}
    for version in (4, 6):
        made = blobs_of(flatten(rows.of(version), version, left_out=left_out), version)
        blobs.update((blob.hash, blob) for blob in made)
        hashes[version] = [blob.hash for blob in made]
    return pb.AddressTable(ipv4=hashes[4], ipv6=hashes[6])
