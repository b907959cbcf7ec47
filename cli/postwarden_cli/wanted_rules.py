"""What each pod of a namespace should have in force by the policies and lists that are in the cluster now.

Contract: the operator's own selection and compiler, fed with what the user may read. Secrets are not read: a key stands for each that is
named, for what they hold is compared by nobody; the revision is the status' then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from postwarden_operator.compiler import NotLabelled
from postwarden_operator.controlplane.wanted import Managed
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi
from postwarden_operator.kube.objects import config_map_of, policy_of
from postwarden_operator.kube.references import References
from postwarden_operator.policy import PolicyInvalid, parse_policy
from postwarden_operator.policy.references import secret_of
from postwarden_operator.reconcile.compilation import Compiler
from postwarden_operator.reconcile.plan import plan
from postwarden_operator.reconcile.world import ConfigMap, Pod, Secret, World
from postwarden_sidecar.controlclient.decode import decode
from postwarden_sidecar.rules.description import Described, describe

from postwarden_cli.admin_client import Refused, Unanswered
from postwarden_cli.sidecar_pods import POLICIES, SidecarPod

STAND_IN_KEY = b"key"  # for every key of a Secret; it is in no description
WATCH_LABEL, TRUE = "postwarden.dev/watch", "true"


@dataclass(frozen=True, slots=True)
class Wish:
    """policy: NAMESPACE/NAME, or "" for none. rules: None where there is no policy, or where it does not compile: errors say why then.
    revision: "" where it is not known."""

    policy: str = ""
    revision: str = ""
    rules: Mapping[str, Described] | None = None
    errors: tuple[str, ...] = ()


async def wishes(api: ClusterApi, namespace: str, pods: Sequence[SidecarPod]) -> dict[str, Wish]:
    """By the pods' names. Raises Unanswered, Refused."""
    try:
        documents = (await api.list_all(POLICIES.format(namespace))).items
        config_maps = await _config_maps(api, documents)
    except ApiUnavailable as error:
        raise Unanswered(f"the API server does not answer: {error}") from error
    except ApiRefused as error:
        raise Refused(str(error)) from error
    return await asyncio.to_thread(compiled, documents, config_maps, list(pods))


def compiled(
    documents: list[dict[str, Any]],
    config_maps: Mapping[tuple[str, str], ConfigMap | NotLabelled],
    pods: list[SidecarPod],
) -> dict[str, Wish]:
    """As the operator would. documents: policies with their status."""
    policies = [policy_of(document) for document in documents]
    world = World(
        tuple(policy.document for policy in policies),
        tuple(Pod(pod.uid, pod.namespace, pod.name, pod.labels, True) for pod in pods),
        config_maps,
        _stand_ins(policy.document for policy in policies),
    )
    known: dict[str, Wish] = {}
    names = {pod.name for pod in pods}
    for outcome in plan(world, Compiler(strict=False)).outcomes:
        policy = next(
            each
            for each in policies
            if (each.document["metadata"]["namespace"], each.document["metadata"]["name"])
            == (outcome.namespace, outcome.name)
        )
        name = f"{outcome.namespace}/{outcome.name}"
        managed = outcome.compilation.managed
        if managed is None:
            wish = Wish(name, errors=tuple(map(str, outcome.compilation.errors)))
        else:
            wish = Wish(name, _revision(managed, policy.document, policy.status), _described(managed))
        known.update(dict.fromkeys(names & set(outcome.screened.values()), wish))
    return {name: known.get(name, Wish()) for name in names}


def _described(managed: Managed) -> dict[str, Described]:
    return describe(decode(managed.snapshot, managed.blobs))


def _revision(managed: Managed, document: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    """Of a policy with Secrets, whose versions are in it, only the operator knows it."""
    if not _secret_names(document):
        return managed.snapshot.revision
    current = status.get("observedGeneration") == document["metadata"].get("generation")
    return str(status.get("revision", "")) if current else ""


async def _config_maps(
    api: ClusterApi, documents: list[dict[str, Any]]
) -> dict[tuple[str, str], ConfigMap | NotLabelled]:
    references = References()
    named = sorted({each for document in documents for each in references.of(document).config_maps})
    found: dict[tuple[str, str], ConfigMap | NotLabelled] = {}

    async def read(namespace: str, name: str) -> None:
        try:
            body = await api.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        except ApiRefused as error:
            if error.status == 404:
                return
            raise
        labelled = (body["metadata"].get("labels") or {}).get(WATCH_LABEL) == TRUE
        found[namespace, name] = config_map_of(body) if labelled else NotLabelled()

    await asyncio.gather(*(read(*each) for each in named))
    return found


def _stand_ins(documents: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Secret]:
    """A Secret for each that is named, with all keys, which may be used for all zones that name it."""
    found: dict[tuple[str, str], Secret] = {}
    for document in documents:
        for (namespace, name), (keys, zones) in _secret_names(document).items():
            data = dict.fromkeys(keys, STAND_IN_KEY)
            found[namespace, name] = Secret(data, "", _common_end(zones))
    return found


def _common_end(zones: Iterable[str]) -> str:
    """The labels with which all of them end."""
    labels = zip(*(reversed(zone.split(".")) for zone in zones), strict=False)
    same = takewhile(lambda column: len(set(column)) == 1, labels)
    return ".".join(reversed([column[0] for column in same]))


def _secret_names(document: Mapping[str, Any]) -> dict[tuple[str, str], tuple[set[str], set[str]]]:
    """Keys and the ends of zones, by namespace and name."""
    try:
        policy = parse_policy(document, strict=False)
    except PolicyInvalid:
        return {}
    found: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for site in policy.spec.dnsbl.sites:
        if (reference := secret_of(site)) is not None:
            keys, zones = found.setdefault((policy.metadata.namespace, reference.name), (set(), set()))
            keys.add(reference.key)
            zones.add(site.zone.rpartition("{key}.")[2])
    return found
