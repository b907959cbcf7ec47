"""Both formats of lists, and how their sources are joined."""

import gzip
import pickle
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postwarden_operator.compiler.flatten import flatten
from postwarden_operator.compiler.list_table import Lists, ListSource, ListText, compile_list, digest_of
from postwarden_operator.compiler.plain_list import parse_plain
from postwarden_operator.compiler.postfix_cidr import DEEPEST_NESTING, parse_postfix_cidr
from postwarden_operator.compiler.rows import Row, Rows
from postwarden_operator.compiler.sources import LARGEST_LIST, MOST_ERRORS, BadList, JoinedList, join
from postwarden_operator.policy.vocabulary import ListFormat
from strategies import CidrLine, cidr_table_text, cidr_tables

PERMIT, REJECT, DUNNO = 1, 2, 3
NUMBERS = {"permit": PERMIT, "reject": REJECT, "dunno": DUNNO}


def joined(*texts: str) -> JoinedList:
    return join([(f"source {number}", text.encode()) for number, text in enumerate(texts, 1)])


def plain(*texts: str) -> Rows:
    return parse_plain(joined(*texts), REJECT)


def postfix(*texts: str) -> Rows:
    return parse_postfix_cidr(joined(*texts))


def errors_of(read: str, *texts: str) -> tuple[str, ...]:
    with pytest.raises(BadList) as caught:
        plain(*texts) if read == "plain" else postfix(*texts)
    return caught.value.errors


def at(flat: Mapping[int, Sequence[Row]], text: str) -> int | None:
    """The action for an address, by flattened rows."""
    address = ip_address(text)
    number = int(address)
    return next((action for first, last, action, _ in flat[address.version] if first <= number <= last), None)


def found(rows: Rows, text: str) -> int | None:
    return at({version: flatten(rows.of(version)) for version in (4, 6)}, text)


# --- an oracle: the table's lines one after the other, as Postfix reads them


def holds(line: CidrLine, address: str) -> bool:
    network, client = ip_network(line.network), ip_address(address)
    return network.version == client.version and (client in network) is not line.negated


def interpret(table: tuple[CidrLine, ...], address: str) -> str | None:
    for line in table:
        if not holds(line, address):
            continue
        if line.block is None:
            return line.action.lower()
        if (result := interpret(line.block, address)) is not None:
            return result
    return None


def networks_of(table: tuple[CidrLine, ...]) -> set[str]:
    return {each for line in table for each in ({line.network} | networks_of(line.block or ()))}


def probes(table: tuple[CidrLine, ...]) -> set[str]:
    """Addresses at the edges of all that the table names, and at the ends."""
    addresses = {"0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}
    for text in networks_of(table):
        network = ip_network(text)
        for edge in (int(network.network_address), int(network.broadcast_address)):
            near = (edge + step for step in (-1, 0, 1) if 0 <= edge + step < 1 << network.max_prefixlen)
            addresses |= {str(type(network.network_address)(each)) for each in near}
    return addresses


@given(st.data(), cidr_tables())
@settings(max_examples=50, deadline=None)
def test_postfix_table_decides_as_its_lines_read_one_by_one(
    data: st.DataObject, drawn: tuple[CidrLine, ...]
) -> None:
    table = (CidrLine(negated=False, network="192.0.2.1", action="permit"), *drawn)
    rows = postfix("\n".join(data.draw(cidr_table_text(table))))
    flat = {version: list(flatten(rows.of(version))) for version in (4, 6)}
    for address in probes(table):
        word = interpret(table, address)
        assert at(flat, address) == (NUMBERS[word] if word else None), address


@given(st.data(), cidr_tables())
@settings(max_examples=20, deadline=None)
def test_sources_may_be_cut_at_any_line(data: st.DataObject, table: tuple[CidrLine, ...]) -> None:
    lines = ["192.0.2.1 permit\n", *(f"{line}\n" for line in data.draw(cidr_table_text(table)))]
    cut = data.draw(st.integers(0, len(lines)))
    assert postfix("".join(lines[:cut]), "".join(lines[cut:])) == postfix("".join(lines))


def test_source_without_a_line_break_at_its_end_gets_one() -> None:
    assert postfix("192.0.2.1 permit", "192.0.2.2 reject") == postfix("192.0.2.1 permit\n192.0.2.2 reject")


# --- Plain


def test_plain_list_has_a_network_a_line_with_comments() -> None:
    rows = plain("# a list\n192.0.2.0/24\n\n  198.51.100.1  # one\r\n2001:db8::/32\n")
    assert list(rows.ipv4) == [(0xC0000200, 0xC00002FF, REJECT, 2), (0xC6336401, 0xC6336401, REJECT, 4)]
    assert [row[3] for row in rows.ipv6] == [5]


def test_plain_list_names_every_bad_line_by_source_and_number() -> None:
    assert errors_of("plain", "192.0.2.1\n10.0.0.1/8\n", "\nx y\n::1") == (
        "source 1, line 2: 10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?",
        'source 2, line 2: "x y" is neither an address nor a network; write one like 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32',
    )


def test_errors_of_a_list_that_is_wrong_throughout_are_counted_and_not_all_told() -> None:
    errors = errors_of("plain", "x\n" * 1000)
    assert len(errors) == MOST_ERRORS + 1
    assert errors[-1] == "and 980 errors more"


@pytest.mark.parametrize("read", ["plain", "postfix"])
@pytest.mark.parametrize("text", ["", "\n", "# 192.0.2.1 permit\n  \n"])
def test_list_without_entries_is_an_error(read: str, text: str) -> None:
    assert errors_of(read, text) == (
        "source 1 is an empty list; give at least one network, or remove the rule",
    )


# --- PostfixCIDR


def test_continued_line_counts_by_its_first_line() -> None:
    rows = postfix("# head\n192.0.2.1\n# between\n\n\tpermit\n192.0.2.2 reject")
    assert [row[2:] for row in rows.ipv4] == [(PERMIT, 2), (REJECT, 6)]


@pytest.mark.parametrize(
    "pattern", ["[2001:db8::1]", "[2001:db8::1]/128", "[2001:db8::1/128]", "! !2001:db8::1", "!!2001:db8::1"]
)
def test_patterns_may_stand_in_brackets_and_be_negated_twice(pattern: str) -> None:
    rows = postfix(f"{pattern} permit")
    assert found(rows, "2001:db8::1") == PERMIT
    assert found(rows, "2001:db8::2") is None


def test_negated_network_matches_only_addresses_of_its_own_version() -> None:
    rows = postfix("!192.0.2.0/24 reject")
    assert found(rows, "192.0.2.7") is None
    assert found(rows, "198.51.100.1") == REJECT
    assert found(rows, "2001:db8::1") is None


def test_negation_of_everything_matches_nothing() -> None:
    assert list(postfix("!0.0.0.0/0 reject\n192.0.2.1 permit").ipv4) == [(0xC0000201, 0xC0000201, PERMIT, 2)]


def test_block_for_one_version_keeps_the_other_out() -> None:
    rows = postfix("if 0.0.0.0/0\n::/0 reject\nendif\n::1 permit")
    assert found(rows, "2001:db8::1") is None
    assert found(rows, "::1") == PERMIT


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("10.0.0.1/8 permit", "line 1: 10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?"),
        (
            "::1 permit\nif 10.0.0.1/8\nendif",
            "line 2: 10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?",
        ),
        ("10.0.0.0/8 ok", 'line 1: "ok" is no action here; write permit, reject or dunno'),
        ("10.0.0.0/8 permit it", 'line 1: "permit it" is no action here; write permit, reject or dunno'),
        ("10.0.0.0/8", "line 1: 10.0.0.0/8 has no action; write permit, reject or dunno"),
        ("! ", "line 1: has no address or network after !"),
        ("iffy permit", 'line 1: "iffy" is neither an address nor a network'),
        (
            "  ::1 permit",
            "line 1: begins with white space, and there is no line before that it could continue",
        ),
        ("if\nendif", "line 1: if has no address or network"),
        (
            "if ::1 permit\nendif",
            'line 1: "permit" after if and its network is too much; write it on a line of its own',
        ),
        ("::1 permit\nendif", "line 2: endif without an if before it"),
        (
            "if ::1\n::1 permit\nendif ::1",
            'line 3: "::1" after endif is too much; write it on a line of its own',
        ),
        ("::1 permit\nif ::1\n::1 permit", "line 2: this if has no endif"),
        ("if ::/0\n" * 33 + "endif\n" * 33, f"line 33: if is nested deeper than {DEEPEST_NESTING} times"),
    ],
)
def test_bad_line_of_a_postfix_table_is_told_by_its_number(text: str, error: str) -> None:
    (told,) = errors_of("postfix", text)
    assert told.startswith(f"source 1, {error}")


def test_all_bad_lines_are_told_in_order() -> None:
    errors = errors_of("postfix", "if ::1\nx permit", "::2 maybe")
    assert [error.partition(":")[0] for error in errors] == [
        "source 1, line 1",
        "source 1, line 2",
        "source 2, line 1",
    ]


# --- sources


def test_gzip_is_read_with_all_its_members() -> None:
    content = gzip.compress(b"192.0.2.1\n") + gzip.compress(b"192.0.2.2\n")
    assert join([("list", content)]).lines == ["192.0.2.1", "192.0.2.2"]


def test_byte_order_mark_is_no_text() -> None:
    assert join([("list", b"\xef\xbb\xbf192.0.2.1")]).lines == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (gzip.compress(b"x" * 1000)[:-9], "list is a gzip file that breaks off; compress the list again"),
        (b"\x1f\x8bgarbage", "list is a damaged gzip file; compress the list again"),
        (gzip.compress(b"::1\n") + b"garbage", "list is a damaged gzip file; compress the list again"),
        (
            gzip.compress(bytes(LARGEST_LIST + 1)),
            "list is larger than 64 MiB when unpacked; split it into several rules",
        ),
        (bytes(LARGEST_LIST + 1), "list is larger than 64 MiB when unpacked; split it into several rules"),
        (b"192.0.2.1 # caf\xe9", "list is not UTF-8 text: byte 15 is wrong"),
    ],
    ids=["cut", "damaged", "trailing", "bomb", "large", "latin1"],
)
def test_content_that_is_no_text_is_refused(content: bytes, error: str) -> None:
    with pytest.raises(BadList) as caught:
        join([("fine", b"::1"), ("list", content)])
    assert caught.value.errors == (error,)


# --- the whole of a list's compiling


def text_of(*sources: str, format: ListFormat = ListFormat.PLAIN) -> ListText:
    return ListText(
        format,
        REJECT,
        tuple(
            ListSource(f"source {number}", digest_of(source.encode()), source.encode())
            for number, source in enumerate(sources, 1)
        ),
    )


networks = st.sampled_from(
    ["192.0.2.1", "10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "# none", "", "::1 # one"]
)
plain_sources = st.lists(st.lists(networks, min_size=1).map("\n".join), min_size=1, max_size=4)


@given(plain_sources, plain_sources)
def test_sources_that_were_parsed_before_give_what_they_give_anew(one: list[str], other: list[str]) -> None:
    lists = Lists(6)
    for sources in (one, other, one):
        text = text_of("192.0.2.7", *sources)
        assert lists.compile(text) == compile_list(text)


def test_errors_of_a_list_are_told_with_those_of_its_other_sources() -> None:
    with pytest.raises(BadList) as caught:
        compile_list(text_of("192.0.2.1\nx", "192.0.2.2", "10.0.0.1/8"))
    assert [error.partition(":")[0] for error in caught.value.errors] == [
        "source 1, line 2",
        "source 3, line 1",
    ]


def test_sources_without_a_network_are_no_error_beside_one_that_has_some() -> None:
    assert compile_list(text_of("# none yet", "192.0.2.1", "")).table.ipv4
    with pytest.raises(BadList, match="source 1 and source 2 is an empty list"):
        compile_list(text_of("# none yet", ""))


def test_an_if_may_end_in_the_next_source() -> None:
    made = compile_list(
        text_of(
            "if 192.0.2.0/24\n192.0.2.1 permit", "endif\n0.0.0.0/0 reject", format=ListFormat.POSTFIX_CIDR
        )
    )
    assert len(made.table.ipv4) == 1


def test_bad_lists_keep_their_errors_over_a_pipe() -> None:
    error = BadList(["one", "two"])
    assert pickle.loads(pickle.dumps(error)).errors == ("one", "two")
