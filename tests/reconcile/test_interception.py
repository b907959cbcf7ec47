"""Which Services lead to the sidecar, and which past it."""

from typing import Any

import pytest
from postwarden_operator.reconcile.exposure import Exposure
from postwarden_operator.reconcile.interception import Screened, Service, ServicePort, interception

LABELS = {"app": "mx"}
BY_NAME = Exposure(10025, 25, (("smtp-upstream", 25), ("submission", 587), ("smtp", 10025)))
REDIRECTED = Exposure(10025, 25, (("smtp", 25), ("postwarden-smtp", 10025)), redirected=True)
BY_HAND = Exposure(10025, 25, (("smtp", 25), ("postwarden-smtp", 10025)))


def service(target: int | str, port: int = 25, name: str = "mx", **fields: Any) -> Service:
    return Service(name, (("app", "mx"),), (ServicePort(port, target),), **fields)


def judged(*services: Service, exposure: Exposure = BY_NAME, **known: Any) -> tuple[str, str, str]:
    found = interception([Screened(LABELS, exposure)], known.pop("bare", ()), services, **known)
    return found.status, found.reason.reason, found.reason.message


@pytest.mark.parametrize(
    ("target", "exposure", "status"),
    [
        ("smtp", BY_NAME, "True/Intercepted"),
        (10025, BY_NAME, "True/Intercepted"),
        (25, BY_NAME, "False/Bypassed"),
        ("smtp-upstream", BY_NAME, "False/Bypassed"),
        ("submission", BY_NAME, "True/NoService"),
        ("other", BY_NAME, "True/NoService"),
        (25, REDIRECTED, "True/Intercepted"),
        ("smtp", REDIRECTED, "True/Intercepted"),
        ("smtp", BY_HAND, "False/Bypassed"),
        ("postwarden-smtp", BY_HAND, "True/Intercepted"),
    ],
)
def test_target_port_leads_to_the_sidecar_or_past_it(
    target: int | str, exposure: Exposure, status: str
) -> None:
    assert "/".join(judged(service(target), exposure=exposure)[:2]) == status


def test_regular_containers_come_before_native_sidecars() -> None:
    exposure = Exposure(10025, 25, (("smtp", 25), ("smtp", 10025)))
    assert judged(service("smtp"), exposure=exposure)[1] == "Bypassed"


def test_who_is_told_of_a_detour_is_told_what_to_write() -> None:
    message = judged(service(25, port=2525))[2]
    assert (
        message
        == "past the sidecar: Service mx, port 2525, has targetPort 25, the MTA's: write targetPort: smtp"
    )
    assert "write targetPort: postwarden-smtp" in judged(service("smtp"), exposure=BY_HAND)[2]
    assert "write targetPort: 10025" in judged(service(25), exposure=Exposure(10025, 25, ()))[2]


def test_headless_service_has_its_clients_dial_the_port_itself() -> None:
    status, reason, message = judged(service("smtp", port=25, headless=True))
    assert (status, reason) == ("False", "Bypassed")
    assert "is headless, and who dials its port 25 comes to the MTA" in message
    assert judged(service("smtp", port=10025, headless=True))[1] == "Intercepted"
    assert judged(service("smtp", port=25, headless=True), exposure=REDIRECTED)[1] == "Intercepted"


def test_port_of_the_policy_is_the_mtas_too() -> None:
    exposure = Exposure(10025, None, (("smtp", 10025),))
    assert judged(service(2525), exposure=exposure)[1] == "NoService"
    assert judged(service(2525), exposure=exposure, upstream_port=2525)[1] == "Bypassed"


def test_service_of_other_pods_or_of_none_says_nothing() -> None:
    other = Service("web", (("app", "web"),), (ServicePort(25, 25),))
    anywhere = Service("manual", (), (ServicePort(25, 25),))
    assert judged(other, anywhere)[1] == "NoService"


def test_lost_address_is_told_unless_something_keeps_it() -> None:
    outside = service("smtp", outside=True)
    status, reason, message = judged(outside)
    assert (status, reason) == ("True", "AddressLost")
    assert "externalTrafficPolicy: Local" in message
    assert judged(service("smtp", outside=True, keeps_address=True))[1] == "Intercepted"
    assert judged(outside, believes_proxy=True)[1] == "Intercepted"
    assert judged(service("submission", outside=True))[1] == "NoService"


def test_pods_without_a_sidecar_are_named_before_all_else() -> None:
    status, reason, message = judged(service(25), bare=("a", "b", "c", "d", "e"))
    assert (status, reason) == ("False", "NotInjected")
    assert message.startswith("5 pods run without a sidecar (a, b, c and 2 more): label the namespace")
    assert "past the sidecar" in message


def test_many_detours_are_counted() -> None:
    message = judged(*(service(25, name=f"mx-{number}") for number in range(5)))[2]
    assert message.count("Service mx-") == 3
    assert message.endswith(" and 2 more")


def test_nothing_is_said_of_no_sidecars() -> None:
    found = interception([], (), [service(25)])
    assert (found.status, found.reason.reason) == ("Unknown", "NoSidecars")
