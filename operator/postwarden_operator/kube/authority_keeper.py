"""Keeps the operator's own CA in a Secret, and the certificate of this replica signed by it.

Contract: `begin` returns when there is a CA and a certificate to serve with; `run` goes on looking. Replicas need no leader: what
the Secret is to hold follows from what it holds and the time (`authority`). It is written by resource version, so that of several writers
one wins and the others take its CA. What can't be read or written now is tried again: until then the CA in memory signs, and
makes new certificates. A Secret that was deleted or damaged under running replicas is written again from memory. The certificate's
key never leaves the process.
"""

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from postwarden_operator.controlplane.tls import CertificateInMemory
from postwarden_operator.controlplane.trust import TrustBundle, bundle_of
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi
from postwarden_operator.kube.authority import (
    Authorities,
    AuthorityUnusable,
    Lifetimes,
    advance,
    decode,
    encode,
    renewal,
)
from postwarden_operator.kube.certificates import Pair, make_authority, make_server_certificate

RETRY = 1.0
"""Seconds until the Secret is asked for again while there is no CA to serve with."""

ATTEMPTS = 5
"""Writes that may lose against another replica's before the next look: after the first, others find nothing left to do."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OwnAuthority:
    """namespace, name: the Secret's. server_names: DNS names or addresses that sidecars connect to."""

    namespace: str
    name: str
    server_names: Sequence[str]
    lifetimes: Lifetimes


class AuthorityKeeper:
    """publish: told what sidecars are to trust. clock: seconds since the epoch."""

    def __init__(
        self,
        api: ClusterApi,
        settings: OwnAuthority,
        certificate: CertificateInMemory,
        publish: Callable[[TrustBundle], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._settings = settings
        self._certificate = certificate
        self._publish = publish
        self._clock = clock
        self._collection = f"/api/v1/namespaces/{settings.namespace}/secrets"
        self._where = f"Secret {settings.namespace}/{settings.name}"
        self._authorities: Authorities | None = None
        self._served: tuple[bytes, Pair] | None = None
        """The CA's certificate, and ours by it."""
        self._said = ""

    async def begin(self) -> None:
        """Raises AuthorityUnusable: a Secret that is no CA of ours is not written over; it may be all that sidecars trust."""
        while not await self._try():  # noqa: ASYNC110  (there is no event: the API server is asked)
            await asyncio.sleep(RETRY)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._settings.lifetimes.look_interval)
            try:
                await self._try()
            except AuthorityUnusable as error:  # only where there is none in memory: not after `begin`
                _log.error("%s", error)

    async def _try(self) -> bool:
        """Whether there is a certificate to serve with."""
        try:
            await self.look()
            self._said = ""
        except (ApiUnavailable, ApiRefused) as error:
            if str(error) != self._said:  # an API server that is away for an hour is one line
                _log.error("the CA in %s can't be read or written, trying again: %s", self._where, error)
                self._said = str(error)
            if self._authorities is not None:
                self._use(self._authorities)
        return self._served is not None

    async def look(self) -> None:
        """Once, now. Raises ApiUnavailable, ApiRefused, AuthorityUnusable."""
        for _ in range(ATTEMPTS):
            body = await self._read()
            found = self._decode(body)
            if found is not None:
                self._use(found)
            wanted = advance(
                found or self._authorities, self._clock(), self._settings.lifetimes, make_authority
            )
            if body is not None and encode(wanted) == _data(body):
                return
            if await self._write(body, wanted):
                self._tell(found, wanted)
                self._use(wanted)
                return

    async def _read(self) -> dict[str, Any] | None:
        try:
            return await self._api.request("GET", f"{self._collection}/{self._settings.name}")
        except ApiRefused as error:
            if error.status == 404:
                return None
            raise

    def _decode(self, body: Mapping[str, Any] | None) -> Authorities | None:
        if body is None:
            return None
        try:
            return decode(_data(body))
        except AuthorityUnusable as error:
            if self._authorities is None:
                raise AuthorityUnusable(
                    f"{self._where} holds no CA of ours: {error}; restore it, or delete it for a new CA, which pods that run now "
                    "will not trust"
                ) from error
            _log.error("%s is damaged (%s): writing it again from memory", self._where, error)
            return None

    async def _write(self, body: dict[str, Any] | None, wanted: Authorities) -> bool:
        """Whether it was written; False: somebody else was faster."""
        data = {key: base64.b64encode(value).decode() for key, value in encode(wanted).items()}
        try:
            if body is None:
                labels = {"app.kubernetes.io/managed-by": "postwarden"}
                metadata = {"name": self._settings.name, "labels": labels}
                secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
                await self._api.request("POST", self._collection, secret)
            else:
                # The body has its resourceVersion.
                await self._api.request(
                    "PUT", f"{self._collection}/{self._settings.name}", {**body, "data": data}
                )
        except ApiRefused as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    def _tell(self, before: Authorities | None, after: Authorities) -> None:
        if before is None:
            _log.info("a new CA is in %s", self._where)
        elif before.signer != after.signer:
            _log.info("the new CA in %s signs from now on; the old one is trusted to its end", self._where)
        elif after.following is not None and before.following is None:
            notice = self._settings.lifetimes.notice
            _log.info("the next CA is published from %s; it signs in %.0f s", self._where, notice)

    def _use(self, authorities: Authorities) -> None:
        """Publish first, then serve."""
        if self._authorities is None or self._authorities.bundle != authorities.bundle:
            self._publish(bundle_of(authorities.bundle))
        self._authorities = authorities
        now, signer = self._clock(), authorities.signer
        if self._served is not None:
            by, pair = self._served
            if by == signer.certificate and now < renewal(pair):
                return
        pair = make_server_certificate(
            signer, self._settings.server_names, now, self._settings.lifetimes.server
        )
        self._certificate.set(pair.certificate, pair.key)
        self._served = signer.certificate, pair


def _data(body: Mapping[str, Any]) -> dict[str, bytes]:
    """A value that is no base64 can't be: the API server looks at it."""
    try:
        return {key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()}
    except (binascii.Error, TypeError) as error:
        raise AuthorityUnusable("its data is no base64") from error
