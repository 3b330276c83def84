"""Pub/Sub's filter language: what a filter says, its canonical text, and what its errors show."""

from functools import reduce

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamflow.base.errors import FilterError
from streamflow.topics.subscriptions.filter import And, Equals, Filter, HasKey, HasPrefix, Not, Or, parse

VIEW = {"type": "view", "my key": "a\nb", "lang": "en-GB"}


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ('attributes.type = "view"', True),
        ('attributes.type="click"', False),
        ('attributes.type != "click"', True),
        ('attributes.missing = ""', False),
        ('attributes.missing != "x"', True),
        ("attributes:type", True),
        ("attributes:Type", False),
        ("NOT attributes:missing", True),
        ("-attributes:type", False),
        ("- - attributes:type", True),
        ('hasPrefix(attributes.lang, "en")', True),
        ('hasPrefix(attributes.missing, "")', False),
        ('attributes."my key" = "a\\nb"', True),
        ('attributes."my key" = "\\x61\\012\\u0062"', True),
        ('attributes:type AND NOT attributes.type = "click" AND attributes:lang', True),
        ("attributes:missing OR attributes:type", True),
        ("NOT attributes:missing AND attributes:other", False),
        ("NOT (attributes:missing AND attributes:other)", True),
        ('(attributes:missing OR attributes:type) AND (attributes:lang OR attributes.type = "x")', True),
        ("\n attributes \n:  type \t", True),
    ],
)
def test_filter_matches_what_pubsub_matches(text, matched):
    assert parse(text).matches(VIEW) is matched
    assert parse(str(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("", 1, "Leave it away"),
        ('attributes.a = "b" and attributes:c', 20, "upper case: AND"),
        ("attributes:a AND attributes:b OR attributes:c", 31, "parentheses"),
        ("attributes:a attributes:b", 14, "AND or OR"),
        ("(attributes:a", 14, "not closed"),
        ("attributes:a)", 13, "closes nothing"),
        ('attributes.a.b = "c"', 13, "quote"),
        ("attributes.a = 'b'", 16, "double quotes"),
        ('attributes.a = "b', 16, "does not end"),
        ("attributes.a = b", 16, "double quotes"),
        ('"b" = attributes.a', 1, "begins with"),
        ("attributes.a = attributes.b", 16, "double quotes"),
        ('hasSuffix(attributes.a, "b")', 1, "hasPrefix"),
        ('hasPrefix(attributes:a, "b")', 11, "hasPrefix(attributes.KEY"),
        ('attributes.a = "b\\q"', 18, "unknown escape"),
        ('attributes.a = "\\uD800"', 17, "no character"),
        ("attributes", 1, "quoted"),
        ("attributes:é", 1, "quoted"),
        ("NOT", 4, "begins with"),
        ("(" * 40 + "attributes:a" + ")" * 40, 33, "parentheses within"),
    ],
)
def test_error_shows_the_place_and_a_way_out(text, column, said):
    with pytest.raises(FilterError) as caught:
        parse(text)
    message, line, caret = str(caught.value).split("\n")
    assert f"column {column}:" in message
    assert said in message
    assert line == "    " + text
    assert caret == "    " + " " * (column - 1) + "^"


def test_error_in_a_later_line_shows_that_line():
    with pytest.raises(FilterError, match="line 2, column 3") as caught:
        parse("attributes.a\n= b OR\nattributes:c")
    assert str(caught.value).endswith("\n    = b OR\n      ^")


def test_filter_longer_than_256_bytes_is_refused():
    parse(f'attributes.a = "{"x" * 239}"')
    with pytest.raises(FilterError, match="257 bytes"):
        parse(f'attributes.a = "{"é" * 119}xx"')


def test_groups_that_change_nothing_make_no_difference():
    assert parse("((attributes:a) AND (attributes:b AND attributes:c))") == parse(
        "attributes:a AND attributes:b AND attributes:c"
    )
    assert parse("attributes:a OR attributes:b") != parse("attributes:b OR attributes:a")
    assert str(parse('NOT attributes.a="b"')) == 'attributes.a != "b"'


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
LEAVES = (
    st.builds(HasKey, WORDS.filter(len))
    | st.builds(Equals, WORDS.filter(len), WORDS)
    | st.builds(HasPrefix, WORDS, WORDS)
)


def joined(kind):
    """As the parser makes them: never a group of a kind within the same."""
    return lambda terms: kind(
        tuple(inner for term in terms for inner in (term.terms if isinstance(term, kind) else (term,)))
    )


def negated(term):
    return term.term if isinstance(term, Not) else Not(term)


def grown(inner):
    several = st.lists(inner, min_size=2, max_size=3)
    return several.map(joined(And)) | several.map(joined(Or)) | inner.map(negated)


FILTERS = st.recursive(LEAVES, grown, max_leaves=8)


def naive(term: Filter, attributes: dict[str, str]) -> bool:
    match term:
        case HasKey(key):
            return key in attributes
        case Equals(key, value):
            return key in attributes and attributes[key] == value
        case HasPrefix(key, prefix):
            return key in attributes and attributes[key][: len(prefix)] == prefix
        case Not(inner):
            return not naive(inner, attributes)
        case And(terms):
            return reduce(lambda held, one: held and naive(one, attributes), terms, True)
        case Or(terms):
            return reduce(lambda held, one: held or naive(one, attributes), terms, False)
    raise AssertionError(term)


@settings(max_examples=80, deadline=None)
@given(FILTERS, st.data())
def test_canonical_text_says_the_same_filter(term, data):
    assert parse(str(term), bytes_max=1 << 20) == term
    keys = st.sampled_from(list("abc")) | WORDS
    attributes = data.draw(st.dictionaries(keys, WORDS, max_size=4))
    assert parse(str(term), bytes_max=1 << 20).matches(attributes) == naive(term, attributes)


PIECES = [
    "attributes",
    "attributes.a",
    "attributes:",
    ':"',
    "hasPrefix(",
    "(",
    ")",
    "AND",
    "OR ",
    "NOT",
    "-",
    "=",
    "!=",
    '"x"',
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([*PIECES, " ", "\\", "\n", ",", ".", '"']) | st.text(max_size=2), max_size=25).map("".join)
)
@example("(" * 256)
@example("-" * 256)
@example('"' + "\\" * 200)
@example("\ud800")
def test_any_text_is_a_filter_or_a_filter_error(text):
    try:
        found = parse(text)
    except FilterError:
        return
    assert parse(str(found), bytes_max=1 << 20) == found
