"""A whole connection: what a client says and when, what lists, store and MTA answer, in any order. `engine_driver` has the promises."""

from __future__ import annotations

from postwarden_sidecar.engine.actions import DnsblAnswer, HandoffOutcome, HandoverOutcome

from fuzz_targets import engine_settings
from fuzz_targets.choices import Choices
from fuzz_targets.engine_driver import Driver

LINES = (
    b"EHLO c.example\r\n",
    b"HELO c.example\r\n",
    b"MAIL FROM:<a@example.com>\r\n",
    b"RCPT TO:<b@example.org>\r\n",
    b"DATA\r\n",
    b"QUIT\r\n",
    b"STARTTLS\r\n",
    b"AUTH PLAIN AGEAYg==\r\n",
    b"BDAT 5 LAST\r\nhello",
    b"RSET\r\n",
    b"NOOP\n",
    b"VRFY a\r\n",
    b"GET / HTTP/1.1\r\n",
    b"Subject: x\r\n",
    b"PROXY TCP4 203.0.113.5 198.51.100.25 4001 25\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x05\xc6\x33\x64\x19\x0f\xa1\0\x19",
)
SPANS = (0.01, 0.5, 2.1, 6.1, 10.6, 301.0, 3601.0)  # seconds
ADDRESSES: tuple[tuple[bytes, ...], ...] = (
    (),
    (b"\x7f\0\0\2",),
    (b"\x7f\0\0\2", b"\x7f\0\0\3"),
    (b"\x7f\0\0\2",) * 250,
)
PASSES: tuple[dict[str, float], ...] = (
    {},
    {"pregreet": 4e9},
    {"pregreet": 4e9, "dnsbl": 4e9, "pipelining": 4e9, "non_smtp_command": 4e9, "bare_newline": 4e9},
    {"pregreet": 1.0, "pipelining": 0.0},
    {"": float("nan"), "pregreet": float("inf"), "dnsbl": -1.0},
)
REFUSALS = ("554 5.3.2 no", "421 4.3.2 busy", "450 later", "it is down", "", "220 x", "554 " + "x" * 2000)
ANSWERS = (
    (HandoverOutcome.DONE, b"ProxyV2"),
    (HandoverOutcome.ANSWERED, b"450 4.3.2 Service currently unavailable\r\n"),
    (HandoverOutcome.ANSWERED, b"550-5.7.1 never\r\n550 5.7.1 ever\r\n"),
    (HandoverOutcome.ANSWERED, b"454 4.7.0 not now\r\n"),
    (HandoverOutcome.CLOSE, b"421 4.3.2 shutting down\r\n"),
    (HandoverOutcome.CLOSE, b""),
    (HandoverOutcome.EXEMPTED, b"250 2.0.0 Ok: queued\r\n"),
    (HandoverOutcome.BARE_NEWLINE, b""),
)
SAY, LINE, WAIT, TIMER, LIST, PASS, HANDOFF, HANDOVER, END, RESET, DRAIN, ODD = range(12)


def fuzz(data: bytes) -> None:
    """Settings, then events to the end."""
    choices = Choices(data)
    context, load = engine_settings.context(choices), engine_settings.load(choices)
    driver = Driver(context, load)
    while not choices.over:
        happen(driver, choices)
    driver.finish()


def happen(driver: Driver, choices: Choices) -> None:
    """One event."""
    match choices.byte() % 12:
        case 0:
            driver.say(choices.chunk())
        case 1:
            driver.say(choices.pick(LINES))
        case 2:
            driver.wait(choices.pick(SPANS))
        case 3:
            driver.reach_deadline()
        case 4:
            zone = choices.pick((*engine_settings.ZONES, "other.example."))
            addresses, ttl = choices.pick(ADDRESSES), choices.pick((0.0, 60.0, 1e9))
            failed = choices.byte() % 4 == 3
            driver.list_answers(DnsblAnswer(zone, addresses, ttl, failed, "x", driver.now, driver.now))
        case 5:
            driver.store_answers(choices.pick(PASSES))
        case 6:
            outcome = choices.pick(tuple(HandoffOutcome))
            driver.handed_off(outcome, choices.pick(REFUSALS), greeting_ended=choices.byte() % 2 == 1)
        case 7:
            driver.handed_over(*choices.pick(ANSWERS))
        case 8:
            driver.half_close()
        case 9:
            driver.reset()
        case 10:
            driver.shut_down()
        case _:
            driver.say_out_of_order(choices.chunk(), peek=choices.byte() % 2 == 0)
