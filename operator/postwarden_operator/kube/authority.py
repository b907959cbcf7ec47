"""The operator's own CA: what it is at a moment, and what it becomes. Pure: time and new CAs are arguments.

Contract: `advance` says what the Secret is to hold at time `now`, given what it holds. A new CA is made when two thirds of the
old one's life are over; it is published for the notice period before it signs, so that every sidecar has heard of it by then; the
old one is trusted to its end. Only time in which replicas looked counts as published: sidecars live on while the operator is
away, and must hear of a new CA before they meet it. So a replica never switches by its clock alone: the Secret says who signs.

Of the Secret: `signer.crt`, `signer.key`; `next.crt`, `next.key`: published, not signing; `previous.crt`; `published`: seconds that
replicas have published it; `looked`: when that was last counted; `ca.crt`: the bundle, for others to mount.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cryptography import x509

from postwarden_operator.kube.certificates import Pair, read_pair

DAY = 86400.0

MakeAuthority = Callable[[float, float], Pair]
"""now, lifetime (seconds) -> a new CA."""


class AuthorityUnusable(Exception):
    """The Secret's content is no CA of ours: the text names the key and what is wrong, never a value."""


class LifetimesUnusable(ValueError):
    """The text says which, and what would do."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds. Raises LifetimesUnusable.

    authority -- of a CA; public ones of this kind last 90 days to 10 years
    notice    -- that a new CA is published before it signs (design: 7 days)
    server    -- of a server certificate, which no replica shares or keeps
    """

    authority: float = 365 * DAY
    notice: float = 7 * DAY
    server: float = 7 * DAY

    def __post_init__(self) -> None:
        if self.authority < 6 * self.notice:
            # A third of its life is left when the new one is published: half of that third is in reserve.
            raise LifetimesUnusable(
                "a CA must live at least six times as long as its successor is published before"
            )
        if self.server > self.authority / 6:
            raise LifetimesUnusable("a server certificate must live at most a sixth as long as its CA")

    @property
    def count_interval(self) -> float:
        """Seconds between two counts of published time, which are writes of the Secret."""
        return self.notice / 20

    @property
    def longest_gap(self) -> float:
        """Seconds between two counts above which the operator was away, and nothing was published."""
        return self.notice / 5

    @property
    def look_interval(self) -> float:
        """Seconds between two looks at the Secret; at most a minute, for one GET costs next to nothing."""
        return min(60.0, self.count_interval, self.server / 20)


@dataclass(frozen=True, slots=True)
class Root:
    """A CA's certificate, PEM, without its key. expires: seconds since the epoch."""

    certificate: bytes
    expires: float


@dataclass(frozen=True, slots=True)
class Authorities:
    """signer: signs. following: published. previous: trusted still. published, looked: see the module."""

    signer: Pair
    following: Pair | None = None
    previous: Root | None = None
    published: float = 0.0
    looked: float = 0.0

    @property
    def bundle(self) -> bytes:
        """PEM of all that sidecars are to trust."""
        roots = [self.previous, self.signer, self.following]
        return b"".join(root.certificate for root in roots if root is not None)


def advance(found: Authorities | None, now: float, lifetimes: Lifetimes, make: MakeAuthority) -> Authorities:
    """What the Secret is to hold; equal to `found` where there is nothing to write."""
    if found is None or max(pair.expires for pair in (found.signer, found.following) if pair) <= now:
        return Authorities(make(now, lifetimes.authority))
    state = found
    if state.previous is not None and state.previous.expires <= now:
        state = replace(state, previous=None)
    if state.following is None and now >= renewal(state.signer):
        state = replace(state, following=make(now, lifetimes.authority), published=0.0, looked=now)
    elif state.following is not None:
        passed = now - state.looked
        if lifetimes.count_interval <= passed <= lifetimes.longest_gap:
            state = replace(state, published=state.published + passed, looked=now)
        elif abs(passed) > lifetimes.longest_gap:
            # Nobody looked, or a clock was set; a replica whose clock is a little behind leaves the counting to the others.
            state = replace(state, looked=now)
    if state.following is not None and (
        state.published >= lifetimes.notice or now >= _last_call(state, lifetimes)
    ):
        previous = Root(state.signer.certificate, state.signer.expires)
        state = Authorities(state.following, previous=previous if previous.expires > now else None)
    return state


def renewal(pair: Pair) -> float:
    """When its successor is due: two thirds of its life are over, as cert-manager does it."""
    return pair.begins + (pair.expires - pair.begins) * 2 / 3


def _last_call(state: Authorities, lifetimes: Lifetimes) -> float:
    """From here on the old CA can't make server certificates of use: better a sidecar that has not heard than all."""
    return state.signer.expires - lifetimes.server


def encode(state: Authorities) -> dict[str, bytes]:
    """The Secret's data."""
    data = {
        "ca.crt": state.bundle,
        "signer.crt": state.signer.certificate,
        "signer.key": state.signer.key,
    }
    if state.previous is not None:
        data["previous.crt"] = state.previous.certificate
    if state.following is not None:
        data |= {"next.crt": state.following.certificate, "next.key": state.following.key}
        data |= {"published": b"%.3f" % state.published, "looked": b"%.3f" % state.looked}
    return data


def decode(data: Mapping[str, bytes]) -> Authorities | None:
    """None: an empty Secret, which somebody made for us. Raises AuthorityUnusable."""
    if not data:
        return None
    signer = _pair(data, "signer")
    following = _pair(data, "next") if "next.crt" in data else None
    previous = None
    if "previous.crt" in data:
        try:
            parsed = x509.load_pem_x509_certificate(data["previous.crt"])
        except ValueError as error:
            raise AuthorityUnusable("previous.crt: no certificate in PEM") from error
        previous = Root(data["previous.crt"], parsed.not_valid_after_utc.timestamp())
    return Authorities(signer, following, previous, _number(data, "published"), _number(data, "looked"))


def _pair(data: Mapping[str, bytes], name: str) -> Pair:
    missing = [key for key in (f"{name}.crt", f"{name}.key") if key not in data]
    if missing:
        raise AuthorityUnusable(f"{missing[0]} is missing")
    try:
        return read_pair(data[f"{name}.crt"], data[f"{name}.key"])
    except ValueError as error:
        # OpenSSL's words may quote the input.
        why = "certificate and key do not belong together, or one can't be read"
        raise AuthorityUnusable(f"{name}.crt and {name}.key: {why}") from error


def _number(data: Mapping[str, bytes], name: str) -> float:
    try:
        number = float(data.get(name, b"0"))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise AuthorityUnusable(f"{name}: no number of seconds")
    return number
