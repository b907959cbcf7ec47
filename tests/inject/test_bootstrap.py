"""What the injection writes into the sidecar's environment is what the sidecar reads."""

import pytest
from inject.golden import Golden, goldens
from postwarden_sidecar.cli import main

OF_TELEMETRY = {"POD_NAME", "POD_NAMESPACE", "POD_UID", "NODE_NAME", "CONTAINER_NAME"}
"""Read by postwarden.telemetry.resource."""


def _injected() -> list[Golden]:
    return [each for each in goldens() if "POSTWARDEN_LISTEN" in str(each.wanted)]


@pytest.mark.parametrize("golden", _injected(), ids=lambda golden: golden.name)
def test_every_variable_is_one_of_the_sidecar_and_of_use_to_it(
    golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sidecar,) = [
        each
        for each in golden.wanted["pod"]["spec"]["initContainers"]
        if each["name"] == "postwarden-sidecar"
    ]
    run = main.commands[sidecar["args"][0]]
    options = {option.envvar: option for option in run.params}
    context = run.make_context("run", [], resilient_parsing=True)
    for variable in sidecar["env"]:
        if variable["name"] in OF_TELEMETRY:
            continue
        option = options[variable["name"]]
        if "value" in variable:
            monkeypatch.setenv(variable["name"], variable["value"])
            option.type_cast_value(context, option.value_from_envvar(context))
    command = sidecar["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "postwarden-sidecar"
    assert command[1] in main.commands
