"""Good files and answers with something wrong in them: what strategies of the fuzz are made of."""

import json

from hypothesis import strategies as st

WEIRD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [0, -1, 1, 255, 2**31, -(2**31) - 1, 2**63, -(2**63) - 1, 2**64, 4 * 10**9, 10**11, 10**20, 10**400]
    ),
    st.floats(),
    st.text(st.characters(codec=None), max_size=20),
    st.sampled_from(["", "\0", "\x1b[2J\nforged", "a" * 5000, "\ud800", "..", "/", "9" * 5000, "-", "{", "é", "=1+1"]),
    st.lists(st.none(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.none(), max_size=2),
    st.integers(1, 3).map(lambda n: json.loads("[" * 10**n + "]" * 10**n) if n < 3 else []),
)


def paths(value, at=()):
    """Every place in a JSON value."""
    yield at
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths(inner, (*at, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from paths(inner, (*at, number))


def put(value, at, new):
    """The value with `new` at a place."""
    if not at:
        return new
    name, *below = at
    if isinstance(value, dict):
        return {each: put(inner, below, new) if each == name else inner for each, inner in value.items()}
    return [put(inner, below, new) if each == name else inner for each, inner in enumerate(value)]


def changed(value):
    """A JSON value in which one to three places hold something else, or are gone, or are there twice."""

    @st.composite
    def made(draw):
        found = value
        for _ in range(draw(st.integers(1, 3))):
            at = draw(st.sampled_from(sorted(paths(found), key=str)))
            found = put(found, at, draw(WEIRD))
        return found

    return made()


def text_of(value):
    """JSON as it may be sent: NaN and Infinity, lone surrogates and huge numbers included."""
    return json.dumps(value).encode("utf-8", "surrogatepass")


def broken(data):
    """Bytes cut, or with some of them changed, doubled or replaced."""

    @st.composite
    def made(draw):
        found = data
        for _ in range(draw(st.integers(1, 3))):
            start = draw(st.integers(0, len(found)))
            stop = draw(st.integers(start, min(len(found), start + 50)))
            between = draw(
                st.one_of(
                    st.binary(max_size=20),
                    st.sampled_from(
                        [b"\0", b"\n", b'"', b"{" * 5000, b"[" * 100_000, b"\xff\xfe", b"\x1b[2J", b"9" * 5000]
                    ),
                    st.just(found[start:stop] * 3),
                )
            )
            found = found[:start] + between + found[stop:]
        return found

    return made()


def mutants(value):
    """Of one JSON value: changed as a value, broken as bytes, or other bytes altogether."""
    data = text_of(value)
    return st.one_of(changed(value).map(text_of), broken(data), st.binary(max_size=200))
