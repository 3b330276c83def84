"""Pub/Sub's filter language: an expression over a message's attributes that says which messages a subscription gets.

    attributes:KEY                          the attribute is there
    attributes.KEY = "VALUE"                … and has this value; `!=`: it is missing or has another one
    hasPrefix(attributes.KEY, "PREFIX")     … and its value begins so
    NOT term, -term                         binds tightest
    term AND term …, term OR term …         not mixed without parentheses
    (expression)

Keys of letters, digits, `_` and `-` stand bare, others are quoted like values. A quoted text knows the escapes
`\\\\ \\" \\' \\? \\a \\b \\f \\n \\r \\t \\v`, `\\xHH`, octal `\\OOO`, `\\uHHHH` and `\\UHHHHHHHH`.
All is case-sensitive. Source: Google's page "Filter messages from a subscription".

The parser descends by hand: the grammar has five rules, and each error names what was expected at that place and a way
out, which a generated parser would have to be taught anyway. Pure; parse once, match often.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from streamflow.base.errors import FilterError

FILTER_BYTES_MAX = 256
"""Pub/Sub's bound on the text of a filter, in UTF-8."""
NESTING_MAX = 32
"""Parentheses within parentheses: keeps the parser's stack small."""

_TEXT = r'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(
    rf"""(?P<space>\s+)
    |attributes\s*(?:(?P<has>:)|(?P<of>\.))\s*(?P<key>[A-Za-z0-9_-]+|{_TEXT})
    |(?P<word>\w+)|(?P<text>{_TEXT})|(?P<mark>!=|[=(),:.-])""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{3})|(.))", re.DOTALL)
_PLAIN_ESCAPES = {"\\": "\\", '"': '"', "'": "'", "?": "?", "`": "`"} | dict(
    zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True)
)
_SHOWN = {character: f"\\{letter}" for letter, character in _PLAIN_ESCAPES.items() if letter not in "'?`"}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Filter(ABC):
    """A parsed filter; equal to another that has the same terms in the same order. `str` gives its canonical text."""

    @abstractmethod
    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Whether the subscription gets a message with these attributes."""

    @abstractmethod
    def __str__(self) -> str: ...


@dataclass(frozen=True, slots=True)
class HasKey(Filter):
    key: str

    def matches(self, attributes: Mapping[str, str]) -> bool:
        return self.key in attributes

    def __str__(self) -> str:
        return f"attributes:{_key(self.key)}"


@dataclass(frozen=True, slots=True)
class Equals(Filter):
    key: str
    value: str

    def matches(self, attributes: Mapping[str, str]) -> bool:
        return attributes.get(self.key) == self.value

    def __str__(self) -> str:
        return f"attributes.{_key(self.key)} = {_quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class HasPrefix(Filter):
    key: str
    prefix: str

    def matches(self, attributes: Mapping[str, str]) -> bool:
        value = attributes.get(self.key)
        return value is not None and value.startswith(self.prefix)

    def __str__(self) -> str:
        return f"hasPrefix(attributes.{_key(self.key)}, {_quoted(self.prefix)})"


@dataclass(frozen=True, slots=True)
class Not(Filter):
    """`term` is never a Not itself: two cancel each other out when parsed."""

    term: Filter

    def matches(self, attributes: Mapping[str, str]) -> bool:
        return not self.term.matches(attributes)

    def __str__(self) -> str:
        if isinstance(self.term, Equals):
            return f"attributes.{_key(self.term.key)} != {_quoted(self.term.value)}"
        return f"NOT {_grouped(self.term)}"


@dataclass(frozen=True, slots=True)
class And(Filter):
    """Two terms or more, none of them an And."""

    terms: tuple[Filter, ...]

    def matches(self, attributes: Mapping[str, str]) -> bool:
        return all(term.matches(attributes) for term in self.terms)

    def __str__(self) -> str:
        return " AND ".join(map(_grouped, self.terms))


@dataclass(frozen=True, slots=True)
class Or(Filter):
    """Two terms or more, none of them an Or."""

    terms: tuple[Filter, ...]

    def matches(self, attributes: Mapping[str, str]) -> bool:
        return any(term.matches(attributes) for term in self.terms)

    def __str__(self) -> str:
        return " OR ".join(map(_grouped, self.terms))


def parse(text: str, *, bytes_max: int = FILTER_BYTES_MAX) -> Filter:
    """The filter that `text` says; FilterError, with the place and a hint, if it says none.

    `bytes_max`: of UTF-8. The canonical text of a filter may be somewhat longer than the text that was parsed.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        _fail(text, error.start, "half of a surrogate pair", "Write the character itself or as \\UHHHHHHHH")
    if size > bytes_max:
        raise FilterError(f"the filter has {size} bytes and may have {bytes_max}. Shorten its keys, values or terms")
    return _Parser(text).filter()


@dataclass(frozen=True, slots=True)
class _Token:
    """`text`: what it says, of an attribute its key alone, at `text_start`; `shown`: all of it, at `start`."""

    kind: str
    text: str
    text_start: int
    shown: str
    start: int


class _Parser:
    """One pass over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0
        self._nesting = 0

    def filter(self) -> Filter:
        if len(self._tokens) == 1:
            self._fail("the filter is empty", "Leave it away to get every message")
        found = self._expression()
        if self._next.kind != "end":
            self._after_term()
        return found

    def _expression(self) -> Filter:
        """Terms joined by AND, or by OR, but not by both."""
        terms = [self._term()]
        joined = self._next.text if self._is("AND", "OR") else None
        while joined and self._is("AND", "OR"):
            if self._next.text != joined:
                self._fail(f"{self._next.text} after {joined}", "AND and OR have no order: say which with parentheses")
            self._at += 1
            terms.append(self._term())
        if joined is None:
            return terms[0]
        kind: type[And | Or] = And if joined == "AND" else Or
        return kind(tuple(inner for term in terms for inner in (term.terms if isinstance(term, kind) else (term,))))

    def _term(self) -> Filter:
        negated = False
        while self._is("NOT", "-"):
            negated = not negated
            self._at += 1
        term = self._group() if self._is("(") else self._condition()
        if not negated:
            return term
        return term.term if isinstance(term, Not) else Not(term)

    def _group(self) -> Filter:
        self._nesting += 1
        if self._nesting > NESTING_MAX:
            self._fail(f"more than {NESTING_MAX} parentheses within each other", "Leave out those that change nothing")
        self._take("(", "")
        inner = self._expression()
        if not self._is(")"):
            self._after_term()
        self._at += 1
        self._nesting -= 1
        return inner

    def _condition(self) -> Filter:
        if self._is("hasPrefix"):
            form = 'It goes hasPrefix(attributes.KEY, "PREFIX")'
            self._at += 1
            self._take("(", form)
            key = self._key("of", "attributes.KEY", form)
            self._take(",", form)
            prefix = self._value()
            self._take(")", form)
            return HasPrefix(key, prefix)
        if self._next.kind == "has":
            return HasKey(self._key("has", "", ""))
        form = 'Keys with other characters than A-Z a-z 0-9 _ - are quoted: attributes."my key"'
        if not self._is("attributes"):
            form = "A term begins with attributes, hasPrefix, NOT, - or a parenthesis"
        key = self._key("of", "attributes.KEY or attributes:KEY", form)
        if self._is("!="):
            self._at += 1
            return Not(Equals(key, self._value()))
        self._take("=", 'Compare with = or !=, quote keys with other characters: attributes."a.b" = "c"')
        return Equals(key, self._value())

    def _key(self, kind: str, what: str, hint: str) -> str:
        token = self._next
        if token.kind != kind:
            self._expected(what, hint)
        self._at += 1
        return self._unquoted(token) if token.text.startswith('"') else token.text

    def _value(self) -> str:
        token = self._next
        if token.kind != "text":
            self._expected("a quoted text", 'Values stand in double quotes: "view"')
        self._at += 1
        return self._unquoted(token)

    def _unquoted(self, token: _Token) -> str:
        def replace(match: re.Match[str]) -> str:
            hex2, hex4, hex8, octal, plain = match.groups()
            place = token.text_start + 1 + match.start()
            if plain is not None:
                if plain not in _PLAIN_ESCAPES:
                    _fail(self._text, place, f"unknown escape '\\{plain}'", "Write a backslash itself as \\\\")
                return _PLAIN_ESCAPES[plain]
            code = int(octal, 8) if octal else int(hex2 or hex4 or hex8, 16)
            if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                _fail(self._text, place, f"'{match[0]}' is no character", "Use a code point that Unicode has assigned")
            return chr(code)

        return _ESCAPE.sub(replace, token.text[1:-1])

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _is(self, *texts: str) -> bool:
        return self._next.kind in ("word", "mark") and self._next.text in texts

    def _take(self, text: str, hint: str) -> None:
        if not self._is(text):
            self._expected(f"'{text}'", hint)
        self._at += 1

    def _after_term(self) -> NoReturn:
        if self._nesting and self._next.kind == "end":
            self._expected("')'", "A parenthesis is not closed")
        if self._is(")"):
            self._fail("')' closes nothing", "Leave it out, or open a parenthesis before")
        self._expected("AND or OR", "Join terms with AND, OR")

    def _expected(self, what: str, hint: str) -> NoReturn:
        token = self._next
        if token.kind == "word" and token.text.upper() in ("AND", "OR", "NOT") and not token.text.isupper():
            hint = f"Operators are upper case: {token.text.upper()}"
        found = "the end" if token.kind == "end" else f"'{token.shown}'"
        self._fail(f"expected {what}, found {found}", hint)

    def _fail(self, what: str, hint: str) -> NoReturn:
        _fail(self._text, self._next.start, what, hint)


def _tokens(text: str) -> list[_Token]:
    """Without white space; the last one is of kind `end`."""
    tokens = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            if text[at] == '"':
                _fail(text, at, "a quoted text does not end", "Close it with a double quote")
            hint = 'Texts stand in double quotes: "view"' if text[at] == "'" else "Quote texts and unusual keys"
            _fail(text, at, f"unexpected '{text[at]}'", hint)
        if match.lastgroup != "space":
            kind = "has" if match["has"] else "of" if match["of"] else str(match.lastgroup)
            part = "key" if match["key"] else 0
            tokens.append(_Token(kind, match[part], match.start(part), match[0], match.start()))
        at = match.end()
    return [*tokens, _Token("end", "", len(text), "", len(text))]


def _fail(text: str, place: int, what: str, hint: str) -> NoReturn:
    """Shows the line of the place with a caret under it."""
    start = text.rfind("\n", 0, place) + 1
    end = text.find("\n", place)
    line = text[start : end if end >= 0 else len(text)].replace("\t", " ")
    number, column = text.count("\n", 0, place) + 1, place - start + 1
    raise FilterError(f"filter, line {number}, column {column}: {what}. {hint}\n    {line}\n    {' ' * (column - 1)}^")


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _quoted(key)


def _quoted(text: str) -> str:
    return '"' + "".join(_SHOWN.get(character, character) for character in text) + '"'


def _grouped(term: Filter) -> str:
    return f"({term})" if isinstance(term, And | Or) else str(term)
