"""The operator's own CA in virtual time: several replicas and sidecars that come and go, through whole rotations."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from postwarden_operator.kube.authority import (
    DAY,
    Authorities,
    AuthorityUnusable,
    Lifetimes,
    LifetimesUnusable,
    advance,
    decode,
    encode,
    renewal,
)
from postwarden_operator.kube.certificates import Pair, make_authority

LIFETIMES = Lifetimes()
"""What users have: a year, and a week's notice."""


def fake(now: float, lifetime: float) -> Pair:
    """A CA that is only a name: what is decided does not depend on cryptography."""
    return Pair(f"CA of {now:.0f}\n".encode(), b"key", now, now + lifetime)


def stepped(state: Authorities, start: float, end: float, step: float) -> Authorities:
    """Looked at every `step` seconds."""
    now = start
    while now < end:
        now += step
        state = advance(state, now, LIFETIMES, fake)
    return state


def test_first_look_makes_a_ca_that_signs_at_once_and_later_ones_change_nothing() -> None:
    first = advance(None, 0, LIFETIMES, fake)
    assert (first.bundle, first.following, first.previous) == (b"CA of 0\n", None, None)
    assert stepped(first, 0, 200 * DAY, DAY) == first


def test_next_ca_is_published_for_a_week_before_it_signs_and_the_old_one_is_trusted_to_its_end() -> None:
    state = advance(None, 0, LIFETIMES, fake)
    due = renewal(state.signer)
    assert due == pytest.approx(365 * DAY * 2 / 3)
    state = advance(state, due, LIFETIMES, fake)
    assert state.following is not None
    assert state.bundle == state.signer.certificate + state.following.certificate
    following = state.following
    almost = stepped(state, due, due + 6.9 * DAY, 60.0)
    assert almost.signer == state.signer
    after = stepped(almost, due + 6.9 * DAY, due + 7.4 * DAY, 60.0)
    assert (after.signer, after.following) == (following, None)
    assert after.bundle == b"CA of 0\n" + following.certificate
    assert stepped(after, due + 7.4 * DAY, 365 * DAY, DAY).bundle == following.certificate


def test_time_in_which_the_operator_was_away_is_no_notice() -> None:
    due = renewal(fake(0, LIFETIMES.authority))
    state = advance(advance(None, 0, LIFETIMES, fake), due, LIFETIMES, fake)
    back = advance(state, due + 30 * DAY, LIFETIMES, fake)
    assert (back.signer, back.published) == (state.signer, 0.0)
    assert stepped(back, due + 30 * DAY, due + 36.9 * DAY, 60.0).signer == state.signer
    assert stepped(back, due + 30 * DAY, due + 37.4 * DAY, 60.0).signer == state.following


def test_ca_about_to_end_gives_way_even_if_its_successor_was_published_too_shortly() -> None:
    state = advance(None, 0, LIFETIMES, fake)
    end = state.signer.expires
    late = advance(state, end - LIFETIMES.server, LIFETIMES, fake)
    assert late.signer.expires > end
    assert late.previous is not None
    assert late.previous.certificate == state.signer.certificate


def test_ca_that_ended_while_the_operator_was_away_is_replaced_at_once() -> None:
    state = advance(None, 0, LIFETIMES, fake)
    both = replace(state, following=fake(1, LIFETIMES.authority))
    for found in (state, both):
        fresh = advance(found, 2 * LIFETIMES.authority, LIFETIMES, fake)
        assert fresh.bundle == fresh.signer.certificate == f"CA of {2 * LIFETIMES.authority:.0f}\n".encode()


def test_replica_with_a_clock_a_little_behind_leaves_the_counting_to_the_others() -> None:
    state = replace(advance(None, 0, LIFETIMES, fake), following=fake(0, 1e9), looked=3600.0)
    assert advance(state, 0.0, LIFETIMES, fake) == state


@dataclass
class Sidecar:
    """Trusts what was in its pod, and what came on a stream."""

    trusted: bytes
    connected: bool = False
    cut_until: float = 0.0


@dataclass
class Cluster:
    """The Secret, replicas that know what they read last, sidecars."""

    now: float = 0.0
    secret: Authorities | None = None
    replicas: list[Authorities | None] = field(default_factory=lambda: [None, None, None])
    sidecars: list[Sidecar] = field(default_factory=list)
    rotations: int = 0

    def look(self, replica: int, *, stale: bool) -> None:
        """One look of a replica; stale: another one looks between its reading and its writing, so that its write is refused."""
        read = self.secret
        if stale:
            self.look((replica + 1) % len(self.replicas), stale=False)
        wanted = advance(read, self.now, LIFETIMES, fake)
        if wanted != read:
            if self.secret is not read:
                self.look(replica, stale=False)
                return
            if read is not None and read.signer != wanted.signer:
                self.rotations += 1
            self.secret = wanted
        self.replicas[replica] = wanted
        self.publish()

    def publish(self) -> None:
        """To every sidecar with a stream; which replica it is with is its own matter: each that looked has told by now."""
        assert self.secret is not None
        for sidecar in self.sidecars:
            if sidecar.connected:
                sidecar.trusted = self.secret.bundle

    def connect(self, sidecar: Sidecar, replica: int) -> None:
        state = self.replicas[replica]
        assert state is not None
        assert state.signer.certificate in sidecar.trusted, f"left behind at day {self.now / DAY:.1f}"
        assert state.signer.expires > self.now
        sidecar.connected = True
        sidecar.trusted = state.bundle


DAYS = st.one_of(st.integers(0, 790), st.integers(240, 252), st.integers(483, 510))
"""Rather often while a next CA is published."""

HAPPENS = st.lists(
    st.tuples(
        DAYS,
        st.sampled_from(["start", "drop", "stop", "away", "race"]),
        st.integers(0, 7),
        st.integers(1, 40),
    ),
    max_size=12,
).map(sorted)


@settings(max_examples=60, deadline=None)
@given(HAPPENS, st.integers(0, 2**16))
@example([(10, "start", 0, 2), (243, "cut", 0, 5), (244, "away", 0, 30)], 0)
def test_no_sidecar_is_left_behind_that_reaches_the_operator_again_within_five_days(
    happens: list[tuple[int, str, int, int]], offset: int
) -> None:
    cluster = Cluster()
    for replica in range(3):
        cluster.look(replica, stale=False)
    away_until = 0.0
    for quarter in range(800 * 4):
        cluster.now = quarter * DAY / 4 + offset % 3600
        while happens and happens[0][0] <= quarter / 4:
            _, what, which, size = happens.pop(0)
            sidecar = cluster.sidecars[which % len(cluster.sidecars)] if cluster.sidecars else None
            match what:
                case "start":
                    assert cluster.secret is not None
                    cluster.sidecars.append(Sidecar(cluster.secret.bundle))
                case "cut" if sidecar is not None and sidecar.connected:
                    sidecar.connected, sidecar.cut_until = False, cluster.now + min(size, 5) * DAY
                case "stop" if sidecar is not None:
                    cluster.sidecars.remove(sidecar)
                case "away":  # the whole operator: no replica looks, streams are lost
                    away_until = cluster.now + size * DAY
                    for each in cluster.sidecars:
                        each.connected = False
                case "race" if cluster.now >= away_until:
                    cluster.look(which % 3, stale=True)
        if cluster.now < away_until:
            continue
        for replica in range(3):
            cluster.look(replica, stale=(offset + quarter) % 5 == replica)
        # Whoever can have a stream makes one, with any replica.
        for index, each in enumerate(cluster.sidecars):
            if not each.connected and cluster.now >= each.cut_until:
                cluster.connect(each, (index + offset) % 3)
    assert cluster.rotations >= 2


def test_secret_holds_the_whole_state_and_the_bundle_for_others() -> None:
    now = 1_700_000_000.0
    state = advance(None, now, LIFETIMES, make_authority)
    published = advance(state, renewal(state.signer), LIFETIMES, make_authority)
    rotated = stepped(published, renewal(state.signer), renewal(state.signer) + 8 * DAY, 3600.0)
    for each in (state, published, rotated):
        data = encode(each)
        assert decode(data) == each
        assert data["ca.crt"] == each.bundle
    assert rotated.previous is not None
    assert "signer.key" not in repr(published)
    assert published.signer.key.decode() not in repr(published)
    assert decode({}) is None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("signer.crt", None, "signer.crt is missing"),
        ("signer.key", None, "signer.key is missing"),
        ("signer.key", b"secret nonsense", "signer.crt and signer.key: certificate and key do not belong"),
        ("next.key", None, "next.key is missing"),
        ("previous.crt", b"nonsense", "previous.crt: no certificate"),
        ("published", b"nan", "published: no number"),
        ("looked", b"soon", "looked: no number"),
    ],
)
def test_damage_is_named_by_its_key_and_never_by_its_value(key: str, value: bytes | None, said: str) -> None:
    now = 1_700_000_000.0
    state = advance(None, now, LIFETIMES, make_authority)
    data = encode(advance(state, renewal(state.signer), LIFETIMES, make_authority))
    if value is None:
        del data[key]
    else:
        data[key] = value
    with pytest.raises(AuthorityUnusable, match=said) as refused:
        decode(data)
    assert "nonsense" not in str(refused.value)


def test_key_of_another_certificate_is_refused() -> None:
    one, other = (encode(advance(None, 1.7e9, LIFETIMES, make_authority)) for _ in range(2))
    with pytest.raises(AuthorityUnusable, match="do not belong together"):
        decode({**one, "signer.key": other["signer.key"]})


@pytest.mark.parametrize("lifetimes", [(35 * DAY, 7 * DAY, DAY), (100 * DAY, 7 * DAY, 20 * DAY)])
def test_lifetimes_that_leave_no_time_to_change_are_refused(lifetimes: tuple[float, float, float]) -> None:
    with pytest.raises(LifetimesUnusable):
        Lifetimes(*lifetimes)
