"""A client from an address that stands for many: no limit per client, no pass, and the tests go on."""

from __future__ import annotations

from dataclasses import replace

from engine.recorded_player import log_words
from engine.scene import WALL, Scene, Wire, make_context, make_rules
from postwarden_sidecar.engine.actions import Load, LookupPass, StorePass
from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.rules.settings import Action, Limits, Protocol, ProtocolTest

SUSPECT, OTHER = "192.0.2.7", "192.0.2.8"


def visit(
    scene: Scene, address: str, *, wait: bool = True, deep: bool = False, limits: Limits | None = None
) -> Wire:
    protocol = Protocol(bare_newline=ProtocolTest(True, Action.ENFORCE)) if deep else Protocol()
    context = replace(make_context(make_rules(limits=limits or Limits(), protocol=protocol)), suspect=SUSPECT)
    wire = scene.connect(context, address)
    if wait:
        scene.wait(6.0)
    return wire


def test_its_pass_is_neither_stored_nor_asked_for() -> None:
    scene = Scene()
    scene.passes[SUSPECT] = {"pregreet": WALL + 1000.0}
    wire = visit(scene, SUSPECT)
    assert wire.handed_over
    assert wire.record is not None
    assert wire.record.verdict is Verdict.PASS_NEW
    assert log_words(wire.record) == ["CONNECT", "PASS NEW"]
    assert not any(isinstance(action, StorePass | LookupPass) for action in wire.actions)


def test_nor_is_one_of_the_tests_in_the_dialogue() -> None:
    scene = Scene()
    wire = visit(scene, SUSPECT, deep=True)
    for line in (b"EHLO x\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n"):
        wire.send(line)
    assert wire.handed_over
    assert scene.passes == {}


def test_the_tests_go_on() -> None:
    scene = Scene()
    wire = visit(scene, SUSPECT, wait=False)
    wire.send(b"EHLO x\r\n")
    scene.wait(6.0)
    wire.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nQUIT\r\n")
    assert b"550 5.5.1" in wire.received


def test_the_limit_per_client_is_for_others() -> None:
    scene = Scene()
    scene.load = lambda wire, key: Load(client=3, screening=5, upstream=0, stress=False)
    assert visit(scene, SUSPECT, limits=Limits(connections_per_client=2)).handed_over
    assert b"421 4.7.0" in visit(scene, OTHER, limits=Limits(connections_per_client=2)).received
    scene.load = lambda wire, key: Load(client=3, screening=5, upstream=0, stress=False)
    assert b"421 4.3.2" in visit(scene, SUSPECT, limits=Limits(screening=5)).received, "other limits hold"


def test_others_get_their_pass() -> None:
    scene = Scene()
    visit(scene, OTHER)
    assert OTHER in scene.passes
