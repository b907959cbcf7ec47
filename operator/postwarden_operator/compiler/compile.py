"""A valid policy and the content of its lists in, rules for the sidecars out.

Contract: pure. Lists are slow (about 1 s for a million lines): where something waits, they are compiled elsewhere before (`list_texts` says
which), and given by `compile_text`. Everything is resolved: the rules hold no default and no reference, only hashes of the blobs
beside them.
"""

from collections.abc import Callable, Iterator, Mapping

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_operator.compiler.content import (
    BlobContent,
    Compiled,
    CompiledTable,
    CompileFailed,
    CompileReason,
    ListContent,
    Missing,
    NotLabelled,
    SecretContent,
)
from postwarden_operator.compiler.dnsbl import dnsbl, keys_of
from postwarden_operator.compiler.list_table import (
    CompileText,
    ListSource,
    ListText,
    compile_list,
    compiled_rows,
    digest_of,
)
from postwarden_operator.compiler.revision import revision_of, version_of
from postwarden_operator.compiler.rows import Rows
from postwarden_operator.compiler.smtp import cache, dialogue, limits, protocol, telemetry
from postwarden_operator.compiler.sources import BadList
from postwarden_operator.compiler.wire_words import ACCESS_ACTIONS, ACTIONS, HANDOFFS, MODES
from postwarden_operator.policy import (
    ConfigMapKey,
    FieldError,
    ScreeningPolicy,
    ScreeningPolicySpec,
    SecretKey,
    config_map_references,
)
from postwarden_operator.policy.duration import milliseconds
from postwarden_operator.policy.model import AccessRule, Pregreet, Upstream
from postwarden_operator.policy.network import parse_network
from postwarden_operator.policy.references import list_sources
from postwarden_operator.policy.vocabulary import EnvelopeAddresses

WATCH_LABEL = "postwarden.dev/watch"
"""ConfigMaps without it (value "true") are not read: the operator asks the server for those that have it only."""

EXEMPTIONS, SOFT_FAIL, DNSBL_ALLOW = "exemptions", "soft-fail", "dnsbl-allow"
"""What a sidecar must know to obey: without it, it would turn away mail that the policy lets in."""

ENVELOPE_ADDRESSES = "envelope-addresses"
"""So is this: without it, it would show what the policy keeps from being shown."""


def compile_policy(
    policy: ScreeningPolicy,
    lists: Mapping[ConfigMapKey, ListContent],
    secrets: Mapping[SecretKey, SecretContent] | None = None,
    *,
    digest: Callable[[bytes], str] = digest_of,
    compile_text: CompileText = compile_list,
) -> Compiled:
    """A key that `lists` or `secrets` does not have counts as Missing. Raises CompileFailed with the errors of all of them.

    digest: of a list's content. compile_text: the table of a list. What was computed before may be given by them.
    """
    contents, problems = _readable(policy, lists)
    keys, key_problems = keys_of(policy, secrets or {})
    problems += key_problems
    if problems:
        raise CompileFailed(problems[0][0], tuple(error for _, error in problems))
    blobs: dict[str, BlobContent] = {}
    texts = dict(_texts(policy.spec, contents, digest))
    rules = _rules(policy.spec, texts, compile_text, blobs)
    rules.dnsbl.CopyFrom(dnsbl(policy.spec.dnsbl, [None if key is None else key.value for key in keys]))
    versions = {key.secret: key.version for key in keys if key is not None}
    revision = revision_of(policy, {key: digest(content) for key, content in contents.items()}, versions)
    return Compiled(rules, blobs, revision, version_of(revision), _features(policy.spec))


def _features(spec: ScreeningPolicySpec) -> tuple[str, ...]:
    needed = {
        EXEMPTIONS: bool(spec.exemptions.recipients),
        SOFT_FAIL: spec.session.soft_fail,
        DNSBL_ALLOW: spec.dnsbl.allow_threshold < 0 and bool(spec.dnsbl.sites),
        ENVELOPE_ADDRESSES: spec.telemetry.envelope_addresses is not EnvelopeAddresses.FULL,
    }
    return tuple(feature for feature, is_needed in needed.items() if is_needed)


def _readable(
    policy: ScreeningPolicy, lists: Mapping[ConfigMapKey, ListContent]
) -> tuple[dict[ConfigMapKey, bytes], list[tuple[CompileReason, FieldError]]]:
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
    return {key: contents[key] for key in sorted(config_map_references(policy)) if key in contents}, problems


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
    spec: ScreeningPolicySpec,
    texts: Mapping[int, ListText],
    compile_text: CompileText,
    blobs: dict[str, BlobContent],
) -> pb.Rules:
    proxy = spec.listener.proxy_protocol
    pass_addresses = _inline(spec.listener.pass_addresses, pb.ACCESS_ACTION_PERMIT)
    return pb.Rules(
        mode=MODES[spec.mode],
        access=pb.Access(
            my_networks=_table(_inline(spec.access.my_networks, pb.ACCESS_ACTION_PERMIT), blobs),
            reject_action=ACTIONS[spec.access.reject_action],
            rules=_access_rules(spec.access.rules, texts, compile_text, blobs),
        ),
        pregreet=_pregreet(spec.pregreet),
        upstream=_upstream(spec.upstream) if spec.upstream is not None else None,
        listener=pb.Listener(
            proxy_trusted=_table(_inline(proxy.trusted, pb.ACCESS_ACTION_PERMIT), blobs),
            proxy_timeout_ms=milliseconds(proxy.timeout),
            pass_addresses=_table(pass_addresses, blobs) if spec.listener.pass_addresses else None,
        ),
        session=pb.Session(hostname=spec.session.hostname or ""),
        telemetry=telemetry(spec.telemetry),
        protocol=protocol(spec.protocol),
        dialogue=dialogue(spec.session),
        limits=limits(spec.limits, spec.stress),
        cache=cache(spec.cache),
        exempt_recipients=[recipient.lower() for recipient in spec.exemptions.recipients],
    )


def _pregreet(pregreet: Pregreet) -> pb.Pregreet:
    wait = milliseconds(pregreet.wait)
    return pb.Pregreet(
        action=ACTIONS[pregreet.action],
        wait_ms=wait,
        stress_wait_ms=min(wait, milliseconds(pregreet.stress_wait)),
        banner=pregreet.banner,
        ttl_ms=milliseconds(pregreet.ttl),
    )


def _upstream(upstream: Upstream) -> pb.Upstream:
    handoff = HANDOFFS[upstream.handoff]
    if upstream.socket is not None:
        return pb.Upstream(socket=upstream.socket, handoff=handoff)
    return pb.Upstream(port=upstream.target_port, handoff=handoff)


def _access_rules(
    rules: tuple[AccessRule, ...],
    texts: Mapping[int, ListText],
    compile_text: CompileText,
    blobs: dict[str, BlobContent],
) -> list[pb.AccessRule]:
    compiled: list[pb.AccessRule] = []
    errors: list[FieldError] = []
    for index, rule in enumerate(rules):
        field = _rule_field(index)
        if index not in texts:
            table = _table(_inline(rule.cidrs or (), _action(rule)), blobs)
        else:
            try:
                made = compile_text(texts[index])
            except BadList as bad:
                errors += [FieldError(f"{field}.listFrom", error) for error in bad.errors]
                continue
            blobs.update(made.blobs)
            table = _address_table(made.table)
        compiled.append(pb.AccessRule(field=field, table=table))
    if errors:
        raise CompileFailed("BadList", tuple(errors))
    return compiled


def list_texts(
    policy: ScreeningPolicy, lists: Mapping[ConfigMapKey, ListContent], digest: Callable[[bytes], str]
) -> list[ListText]:
    """The lists that compiling the policy needs; none while one of their sources is missing."""
    contents, problems = _readable(policy, lists)
    return [] if problems else [text for _, text in _texts(policy.spec, contents, digest)]


def _texts(
    spec: ScreeningPolicySpec, contents: Mapping[ConfigMapKey, bytes], digest: Callable[[bytes], str]
) -> Iterator[tuple[int, ListText]]:
    """With the index of the rule."""
    for index, rule in enumerate(spec.access.rules):
        if rule.list_from is not None:
            sources = tuple(
                ListSource(str(key), digest(contents[key]), contents[key])
                for key in list_sources(rule.list_from)
            )
            yield index, ListText(rule.list_from.format, _action(rule), sources)


def _action(rule: AccessRule) -> int:
    return ACCESS_ACTIONS[rule.action] if rule.action is not None else pb.ACCESS_ACTION_UNSPECIFIED


def _inline(networks: tuple[str, ...], action: int) -> Rows:
    rows = Rows()
    for text in networks:
        network = parse_network(text)
        rows.of(network.version).append((network.first, network.last, action, 0))
    return rows


def _table(rows: Rows, blobs: dict[str, BlobContent]) -> pb.AddressTable:
    made = compiled_rows(rows)
    blobs.update(made.blobs)
    return _address_table(made.table)


def _address_table(table: CompiledTable) -> pb.AddressTable:
    return pb.AddressTable(
        ipv4=table.ipv4,
        ipv6=table.ipv6,
        ipv4_lines_before=table.ipv4_lines_before if any(table.ipv4_lines_before) else (),
        ipv6_lines_before=table.ipv6_lines_before if any(table.ipv6_lines_before) else (),
    )
