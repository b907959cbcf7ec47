"""An AdmissionReview in, its answer out: what the webhook says. No I/O.

Contract: a pod that is not to be injected, or has been, is allowed as it is. What is no AdmissionReview of a pod in the making raises
BadReview. The JSON patch is kopf's, of the pod as it came and the pod as it is to be.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, cast

import kopf

from postwarden_operator.inject import InjectionSettings, Refusal, inject

UNPROCESSABLE = 422
"""HTTP's status for a pod that is refused."""


class BadReview(ValueError):
    """The text says what is missing."""


def review(document: object, settings: InjectionSettings) -> dict[str, Any]:
    """The AdmissionReview with the response. Raises BadReview."""
    request = document.get("request") if isinstance(document, Mapping) else None
    if not isinstance(request, Mapping) or not isinstance(request.get("uid"), str):
        raise BadReview("no AdmissionReview with a request")
    pod = request.get("object")
    if not isinstance(pod, Mapping) or (request.get("kind") or {}).get("kind") != "Pod":
        raise BadReview("the request has no pod")
    response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    result = inject(pod, str(request.get("namespace") or "default"), settings)
    if isinstance(result, Refusal):
        response["allowed"] = False
        response["status"] = {"code": UNPROCESSABLE, "reason": "Invalid", "message": result.message}
    else:
        if result.warnings:
            response["warnings"] = list(result.warnings)
        if patch := json_patch(pod, result.pod):
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(json.dumps(patch).encode()).decode()
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def json_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """RFC 6902. Empty: they are equal."""

    def become(body: Any) -> None:
        body.clear()
        body.update(after)

    return list(kopf.Patch(fns=[become]).as_json_patch(cast(kopf.RawBody, before)))
