"""A list that was compiled before gives after an edit what it gives from nothing, and little is made again."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postwarden_operator.compiler import BadList, ListText, interval_table, table
from postwarden_operator.compiler.content import CompiledList
from postwarden_operator.compiler.flatten import flatten
from postwarden_operator.compiler.list_table import Lists, ListSource, compile_list, digest_of
from postwarden_operator.compiler.rows import Columns
from postwarden_operator.policy.vocabulary import ListFormat

REJECT = 2

plain_lines = st.one_of(
    st.integers(0, 63).map(lambda number: f"192.0.2.{number}"),
    st.integers(0, 15).map(lambda number: f"192.0.2.{number * 4}/30"),
    st.integers(0, 255).map(lambda number: f"{number}.0.0.0/8"),
    st.sampled_from(
        ["0.0.0.0", "255.255.255.255", "0.0.0.0/0", "128.0.0.0/1", "192.0.2.0/24", "# none", "", "::/0"]
    ),
    st.integers(0, 40).map(lambda number: f"2001:db8::{number:x}"),
    st.integers(0, 8).map(lambda number: f"2001:db8::{number * 4:x}/126"),
)
postfix_lines = st.one_of(
    st.tuples(plain_lines, st.sampled_from(["permit", "reject", "dunno"])).map(" ".join),
    st.integers(0, 8).map(lambda number: f"!192.0.2.{number * 4}/30 reject"),
    st.sampled_from(["if 192.0.2.0/26\n192.0.2.7 permit\n!192.0.2.16/28 dunno\nendif", "# none", ""]),
)
LINES = {ListFormat.PLAIN: plain_lines, ListFormat.POSTFIX_CIDR: postfix_lines}


@st.composite
def histories(draw: st.DrawFn) -> tuple[ListFormat, list[list[list[str]]]]:
    """A list in sources of lines, as it is after each of some edits, some of them bad; some lists are in order, as large ones are."""
    format = draw(st.sampled_from(ListFormat))
    lines = LINES[format]
    sources = draw(st.lists(st.lists(lines, max_size=40), min_size=1, max_size=4))
    if draw(st.booleans()):
        sources = [sorted(source) for source in sources]
    history = [sources]
    for _ in range(draw(st.integers(1, 4))):
        sources = [list(source) for source in sources]
        for _ in range(draw(st.integers(1, 3))):
            source = draw(st.sampled_from(sources))
            at = draw(st.integers(0, len(source)))
            source[at : at + draw(st.integers(0, 2))] = draw(st.lists(lines, max_size=2))
        history.append(sources)
        if draw(st.integers(0, 5)) == 0:
            history.append([[*sources[0], "no network"], *sources[1:]])
    return format, history


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table.MOST_ROWS, 4, 4)
    monkeypatch.setitem(table.MOST_ROWS, 6, 4)
    monkeypatch.setattr(interval_table, "NEAR", 1)


def text_of(format: ListFormat, sources: list[list[str]]) -> ListText:
    contents = ["\n".join(source).encode() for source in sources]
    return ListText(
        format,
        REJECT,
        tuple(
            ListSource(f"source {number}", digest_of(content), content)
            for number, content in enumerate(contents)
        ),
    )


def outcome(lists: Lists | None, text: ListText) -> CompiledList | tuple[str, ...]:
    try:
        return compile_list(text) if lists is None else lists.compile(text)
    except BadList as bad:
        return bad.errors


@given(histories())
@settings(max_examples=150)
def test_an_edited_list_is_what_it_is_from_nothing(drawn: tuple[ListFormat, list[list[list[str]]]]) -> None:
    format, history = drawn
    lists, known = Lists(10_000), set[str]()
    for sources in history:
        text = text_of(format, sources)
        anew = outcome(None, text)
        if not isinstance(anew, CompiledList):
            assert outcome(lists, text) == anew
            continue
        made = lists.compile(text, known)
        assert made.table == anew.table
        assert {hash: blob for hash, blob in anew.blobs.items() if hash not in known} == made.blobs
        known = set(anew.blobs)
    assert outcome(lists, text) == anew


@pytest.mark.parametrize("most_rows", [0, 50])
def test_what_was_forgotten_is_made_again(most_rows: int) -> None:
    lists = Lists(most_rows)
    texts = [text_of(ListFormat.PLAIN, [[f"10.0.{n}.{m}" for m in range(40)]]) for n in range(3)]
    for text in (*texts, *texts):
        assert lists.compile(text) == compile_list(text)


def test_a_line_more_in_a_large_list_makes_one_shard_anew_and_looks_at_few_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = random.Random(1)
    addresses = sorted(chance.sample(range(1 << 24), 4000))
    lines = [f"{a >> 16}.{a >> 8 & 255}.{a & 255}.0/24" for a in addresses]
    sources = [lines[at : at + 500] for at in range(0, 4000, 500)]
    lists = Lists(10_000)
    before = lists.compile(text_of(ListFormat.PLAIN, sources))
    flattened: list[int] = []

    def counted(rows: Columns, *, left_out: int | None = None) -> Columns:
        flattened.append(len(rows))
        return flatten(rows, left_out=left_out)

    monkeypatch.setattr(interval_table, "flatten", counted)
    source = sources[3]
    source.insert(250, source[249].replace("0/24", "128/25"))
    text = text_of(ListFormat.PLAIN, sources)
    made = lists.compile(text, before.blobs.keys())
    assert len(made.blobs) <= 2
    assert len(made.table.ipv4) > 1000
    assert 0 < sum(flattened) <= 4
    assert made.table == compile_list(text).table
