"""The part of a ScreeningPolicy on the tests after the greeting. Conventions as in `model`."""

from typing import Annotated

from pydantic import Field, Strict

from postwarden_operator.policy.formats import Ttl
from postwarden_operator.policy.part import Part
from postwarden_operator.policy.smtp_formats import CommandWord
from postwarden_operator.policy.vocabulary import Action, Handover


class ProtocolTest(Part):
    """A test of how a client speaks SMTP."""

    enabled: Annotated[bool, Strict()] = True
    """Whether it is made."""
    action: Action = Action.ENFORCE
    """What is done with a client that fails. Ignore: it is logged. Enforce: 550 for each recipient, after helo, sender and recipient are
    logged. Drop: 521 at once."""
    ttl: Ttl = "720h"
    """How long a client that passed is not tested again."""


class NonSmtpCommandTest(ProtocolTest):
    """The test for commands that are not SMTP's."""

    action: Action = Action.DROP
    """What is done with a client that fails. Ignore: it is logged. Enforce: 550 for each recipient, after helo, sender and recipient are
    logged. Drop: 521 at once."""


class Protocol(Part):
    """The tests after the greeting."""

    pipelining: ProtocolTest = Field(default_factory=ProtocolTest)
    """For clients that send several commands at once, which they may not (PIPELINING is not offered)."""
    non_smtp_command: NonSmtpCommandTest = Field(default_factory=NonSmtpCommandTest, alias="nonSMTPCommand")
    """For clients that speak another protocol, like HTTP to an open proxy."""
    bare_newline: ProtocolTest = Field(default_factory=ProtocolTest)
    """For clients that end lines with LF and no CR."""
    forbidden_commands: Annotated[tuple[CommandWord, ...], Field(max_length=64)] = ("CONNECT", "GET", "POST")
    """Which commands are not SMTP's; whatever begins with no letter is none either."""
    handoff: Handover = Handover.INLINE
    """What becomes of a client that passes in its session's middle. Inline: the session goes on with the mail server. Reconnect: 450 for
    each recipient, it passes when it comes back (as with postscreen)."""
