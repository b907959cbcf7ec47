"""The manifest for those without the webhook is what the webhook would make, but for the CA, which comes from a ConfigMap."""

import copy
import re
from pathlib import Path
from typing import Any

from postwarden_operator.inject import Injection, InjectionSettings, inject
from ruamel.yaml import YAML

MANIFEST = Path(__file__).parents[2] / "examples" / "sidecar-by-hand.yaml"
REDIRECT = MANIFEST.parents[1] / "docs" / "redirect.md"
CA = {"name": "postwarden-ca"}


def written_pod() -> dict[str, Any]:
    deployment, _ = YAML(typ="safe").load_all(MANIFEST)
    template: dict[str, Any] = deployment["spec"]["template"]
    return template


def sidecar_of(pod: dict[str, Any]) -> dict[str, Any]:
    (sidecar,) = pod["spec"]["initContainers"]
    return dict(sidecar)


def environment(sidecar: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in sidecar["env"]}


def test_manifest_is_what_injection_makes() -> None:
    written = written_pod()
    plain = copy.deepcopy(written)
    # Without what is ours.
    plain["metadata"]["annotations"] = {"postwarden.dev/handoff": "Plain"}
    for part in ("initContainers", "volumes", "terminationGracePeriodSeconds"):
        del plain["spec"][part]
    (mta,) = plain["spec"]["containers"]
    del mta["lifecycle"]
    mta["ports"][0]["name"] = "smtp"
    by_hand = sidecar_of(written)
    variables = environment(by_hand)
    settings = InjectionSettings(by_hand["image"], variables["POSTWARDEN_CONTROL"], "the CA")
    result = inject(plain, "mail", settings)
    assert isinstance(result, Injection)
    injected = copy.deepcopy(dict(result.pod))
    ours = sidecar_of(injected)

    assert variables.pop("POSTWARDEN_CA_FILE") == "/etc/postwarden/ca.crt"
    assert variables == {name: value for name, value in environment(ours).items() if name != "POSTWARDEN_CA"}
    mount = {**CA, "mountPath": "/etc/postwarden", "readOnly": True}
    assert by_hand["volumeMounts"] == [*ours["volumeMounts"], mount]
    volume = {**CA, "configMap": {"name": "postwarden-ca"}}
    assert written["spec"]["volumes"] == [*injected["spec"]["volumes"], volume]
    rest = (by_hand.keys() | ours.keys()) - {"env", "volumeMounts"}
    assert {key: by_hand.get(key) for key in rest} == {
        key: ours.get(key) for key in rest - {"env", "volumeMounts"}
    }
    for spec in (written["spec"], injected["spec"]):
        del spec["initContainers"], spec["volumes"]
    assert written["spec"] == injected["spec"]


def test_webhook_leaves_the_manifest_as_it_is() -> None:
    pod = written_pod()
    assert inject(pod, "mail", InjectionSettings("other", "other:1", "")) == Injection(pod)


def test_documented_redirect_is_what_injection_makes() -> None:
    (block,) = re.findall(r"^```yaml\n(      initContainers:\n.*?)^```$", REDIRECT.read_text(), re.M | re.S)
    redirect, sidecar = YAML(typ="safe").load(block)["initContainers"]
    plain = written_pod()
    del plain["spec"]["initContainers"], plain["spec"]["volumes"]
    plain["spec"]["containers"][0]["ports"] = [{"containerPort": 25}]
    plain["metadata"]["annotations"] = {"postwarden.dev/intercept": "redirect"}
    result = inject(plain, "mail", InjectionSettings(redirect["image"], "postwarden:8443", "the CA"))
    assert isinstance(result, Injection)
    ours, our_sidecar = result.pod["spec"]["initContainers"]
    assert environment(redirect) == environment(ours)
    security = redirect["securityContext"]
    assert security.items() <= ours["securityContext"].items()
    assert environment(sidecar).items() <= environment(our_sidecar).items()
    for probe in ("startupProbe", "readinessProbe"):
        asked = sidecar[probe].pop("httpGet")
        assert asked.items() <= our_sidecar[probe].pop("httpGet").items()
        assert sidecar[probe].items() <= our_sidecar[probe].items()
