"""The parts of a ScreeningPolicy on the sidecar's own SMTP dialogue. Conventions as in `model`."""

from typing import Annotated

from pydantic import Field, Strict

from postwarden_operator.policy.formats import CommandTime, Hostname
from postwarden_operator.policy.part import Part
from postwarden_operator.policy.smtp_formats import ExtensionKeyword, Footer, Recipient
from postwarden_operator.policy.vocabulary import DOCUMENTED_DEFAULT


class Session(Part):
    """How the sidecar itself speaks SMTP."""

    hostname: Hostname | None = Field(default=None, json_schema_extra={DOCUMENTED_DEFAULT: "the upstream's"})
    """Our name in replies."""
    command_time_limit: CommandTime = "300s"
    """How long a client may take for a whole command."""
    stress_command_time_limit: CommandTime = "10s"
    """The same under stress (see `stress`); never longer than `commandTimeLimit`."""
    command_count_limit: Annotated[int, Strict(), Field(ge=1, le=1000)] = 20
    """How many commands a client may send; then 421."""
    line_length_limit: Annotated[int, Strict(), Field(ge=64, le=4096)] = 2048
    """A command line, without its end, has to be shorter than so many bytes."""
    hello_required: Annotated[bool, Strict()] = False
    """Whether MAIL is refused before HELO or EHLO."""
    reject_footer: Footer = ""
    """A second line for every 4xx and 5xx reply, to tell people whom to ask. "" for none. `\\n` begins a further line, `\\c` at the
    start goes on with the reply's own. Filled in are `$client_address`, `$client_port`, `$server_name` and `$localtime`; `$$` is
    a `$`."""
    hidden_extensions: Annotated[tuple[ExtensionKeyword, ...], Field(max_length=32)] = ()
    """What EHLO does not offer although the mail server does, like STARTTLS."""
    soft_fail: Annotated[bool, Strict()] = False
    """Whether every 5xx of ours becomes 4xx, so that no mail is lost while a policy is tried out."""


class Exemptions(Part):
    """Recipients that everybody may write to."""

    recipients: Annotated[tuple[Recipient, ...], Field(max_length=64)] = ()
    """`postmaster@` (at any domain, or none), `abuse@example.com`, or `@example.org` (a whole domain, not its subdomains), in any case:
    mail for them gets through, one a connection, although its client is refused. Not under Drop: the client is gone by then."""
