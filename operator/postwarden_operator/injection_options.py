"""The options of `postwarden-operator run` that are about injection."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from postwarden_operator.option_values import host_port

if TYPE_CHECKING:
    from postwarden_operator.kube.injector import WebhookSettings

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--webhook",
        show_envvar=True,
        metavar="HOST:PORT",
        help="Serve the webhook there that injects sidecars, at /inject, with the same certificate. Needs --sidecar-image and "
        "--sidecar-control.",
    ),
    click.option(
        "--webhook-configuration",
        show_envvar=True,
        metavar="NAME",
        help="The MutatingWebhookConfiguration whose caBundle is to be kept. Without it somebody else does, cert-manager for instance.",
    ),
    click.option("--sidecar-image", show_envvar=True, metavar="IMAGE", help="What is injected."),
    click.option(
        "--sidecar-pull-policy",
        type=click.Choice(["Always", "IfNotPresent", "Never"]),
        show_envvar=True,
        help="Of that image.  [default: the cluster's]",
    ),
    click.option(
        "--sidecar-control",
        show_envvar=True,
        metavar="HOST:PORT",
        help="Where injected sidecars find the control plane; one of the names that its certificate is for.",
    ),
    click.option(
        "--sidecar-otlp-endpoint", show_envvar=True, metavar="URL", help="Where their telemetry goes by OTLP."
    ),
    click.option(
        "--sidecar-resources",
        show_envvar=True,
        metavar="JSON",
        help='Their requests and limits, like {"requests": {"cpu": "50m"}}.',
    ),
)


def injection_options(command: Command) -> Command:
    """Decorates the command with them; their values are for `webhook_settings`."""
    return functools.reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def webhook_settings(
    webhook: str | None,
    webhook_configuration: str | None,
    sidecar_image: str | None,
    sidecar_pull_policy: str | None,
    sidecar_control: str | None,
    sidecar_otlp_endpoint: str | None,
    sidecar_resources: str | None,
) -> "WebhookSettings | None":
    """None: no webhook is wanted. Raises click.UsageError."""
    from postwarden_operator.inject import InjectionSettings
    from postwarden_operator.kube.injector import WebhookSettings

    if webhook is None:
        if webhook_configuration is not None:
            raise click.UsageError("--webhook-configuration is of no use without --webhook")
        return None
    if not sidecar_image or not sidecar_control:
        raise click.UsageError("--webhook needs --sidecar-image and --sidecar-control")
    host_port("--sidecar-control", sidecar_control)
    sidecar = InjectionSettings(
        image=sidecar_image,
        control=sidecar_control,
        ca_pem="",
        pull_policy=sidecar_pull_policy,
        otlp_endpoint=sidecar_otlp_endpoint or None,
        resources=_resources(sidecar_resources or "{}"),
    )
    return WebhookSettings(*host_port("--webhook", webhook), sidecar, webhook_configuration or None)


def _resources(text: str) -> Mapping[str, Any]:
    try:
        resources = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--sidecar-resources is no JSON: {error}") from error
    wanted = isinstance(resources, dict) and resources.keys() <= {"requests", "limits"}
    if not wanted or not all(isinstance(each, dict) for each in resources.values()):
        raise click.UsageError(
            '--sidecar-resources: give an object with requests and limits, like {"requests": {"cpu": "50m"}}'
        )
    return dict(resources)
