"""AdmissionReviews in and out."""

import base64
import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import given, settings
from inject.golden import SETTINGS, goldens
from inject.pods import pods
from postwarden_operator.inject import Injection, inject
from postwarden_operator.kube.admission import BadReview, json_patch, review

FEWER = settings(max_examples=40)
"""A pod takes 20 ms to draw."""


def request_for(pod: object, **fields: Any) -> dict[str, Any]:
    request = {"uid": "u1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "namespace": "mail"}
    return {"kind": "AdmissionReview", "request": {**request, "object": pod, **fields}}


def response_to(pod: object) -> dict[str, Any]:
    response: dict[str, Any] = review(request_for(pod), SETTINGS)["response"]
    assert response["uid"] == "u1"
    return response


@pytest.mark.parametrize("golden", goldens(), ids=lambda golden: golden.name)
def test_answer_makes_the_golden_of_the_pod(golden: Any) -> None:
    response = response_to(golden.pod)
    assert response["allowed"] is ("refused" not in golden.wanted)
    if response["allowed"]:
        patch = json.loads(base64.b64decode(response["patch"])) if "patch" in response else []
        assert jsonpatch.apply_patch(golden.pod, patch) == golden.wanted["pod"]
        assert response.get("warnings") == golden.wanted.get("warnings")
    else:
        assert response["status"]["message"] == golden.wanted["refused"]


@given(pods())
@FEWER
def test_patch_leads_from_the_pod_to_the_wanted_one(pod: dict[str, Any]) -> None:
    result = inject(pod, "mail", SETTINGS)
    if isinstance(result, Injection):
        assert jsonpatch.apply_patch(pod, json_patch(pod, result.pod)) == result.pod


def test_pod_that_stays_as_it_is_has_no_patch() -> None:
    assert response_to({"metadata": {}, "spec": {}}) == {"uid": "u1", "allowed": True}


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "no AdmissionReview"),
        ({}, "no AdmissionReview"),
        ({"request": {"object": {}}}, "no AdmissionReview"),
        (request_for(None), "no pod"),
        (request_for({}, kind={"kind": "Service"}), "no pod"),
        (request_for({}, kind=None), "no pod"),
    ],
)
def test_what_is_no_review_of_a_pod_is_refused(document: object, problem: str) -> None:
    with pytest.raises(BadReview, match=problem):
        review(document, SETTINGS)
