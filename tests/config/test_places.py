"""Where each key and each value of a TOML file stands."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream.config.places import Layer, layer_of_file, origin_of, spot_in, spot_of, stands
from lmstream.errors import ConfigError

FILE = '''top = 1  # [engine]
"quoted key"."with \\" quote" = 'its'
[ engine ]
org_id = "acme # no comment"
org_by_topic = { "lm.metrics" = "a", other = { deep = [1, 2] } }
metric_allow = [
    "one",  # a comment, with ] in it
    "two",
]
text = """
[no.table]
key = 1
"""
limits.points = 1_000
[[many]]
name = "first"
[many.below]
x = 2024-05-09 14:00:00
[[many]]
name = "second"
'engine.limits' = -1
'''


@pytest.mark.parametrize(
    ("path", "line", "key", "value"),
    [
        (("top",), 1, "top", "1"),
        (("quoted key", 'with " quote'), 2, '"quoted key"."with \\" quote"', "'its'"),
        (("quoted key",), 2, '"quoted key"."with \\" quote"', None),
        (("engine",), 3, "engine", None),
        (("engine", "org_id"), 4, "org_id", '"acme # no comment"'),
        (("engine", "org_by_topic", "lm.metrics"), 5, '"lm.metrics"', '"a"'),
        (("engine", "org_by_topic", "other", "deep"), 5, "deep", "[1, 2]"),
        (("engine", "org_by_topic", "other", "deep", "1"), 5, "2", "2"),
        (("engine", "metric_allow"), 6, "metric_allow", "["),
        (("engine", "metric_allow", "1"), 8, '"two"', '"two"'),
        (("engine", "text"), 10, "text", '"""'),
        (("engine", "limits", "points"), 14, "limits.points", "1_000"),
        (("engine", "limits"), 14, "limits.points", None),
        (("many",), 15, "many", None),
        (("many", "0", "name"), 16, "name", '"first"'),
        (("many", "0", "below"), 17, "many.below", None),
        (("many", "0", "below", "x"), 18, "x", "2024-05-09 14:00:00"),
        (("many", "1", "name"), 20, "name", '"second"'),
        (("many", "1", "engine.limits"), 21, "'engine.limits'", "-1"),
    ],
)
def test_each_key_and_each_value_has_its_line_and_columns(path, line, key, value):
    assert (under(path), spot_in("x.toml", FILE, path).line) == (key, line)
    assert under(path, value=True) == (value or key)


def test_the_file_is_toml():
    assert tomllib.loads(FILE)["many"][1]["engine.limits"] == -1


def under(path, *, value=False):
    spot = spot_in("x.toml", FILE, path, value=value)
    assert spot.file == "x.toml"
    return FILE.splitlines()[spot.line - 1][spot.column - 1 : spot.column - 1 + spot.width]


def test_what_is_not_there_stands_where_it_would_be():
    assert under(("engine", "limits", "no", "such")) == "limits.points"
    assert under(("engine", "org_id", "deeper"), value=True) == "org_id"
    assert spot_in("x.toml", FILE, ("no", "such")) is None


@pytest.mark.parametrize("text", ["", "\n", "[", "a", "a =", "a = [1", "[[t]", 'a = "b', "= 1", "a = 1 ]", "[" * 5000])
def test_what_is_no_toml_has_no_places_and_raises_nothing(text):
    stands(text)


TEXTS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=6)
LEAVES = st.integers(-9, 9) | st.booleans() | TEXTS
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


def written(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return "{" + ", ".join(f"{written(k)} = {written(v)}" for k, v in value.items()) + "}"


def leaves(path, value):
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in pairs:
        yield from leaves((*path, str(name)), inner)
    if path and not isinstance(value, dict | list):
        yield path, value


@given(st.dictionaries(TEXTS, st.dictionaries(TEXTS, TREES, max_size=3), max_size=3))
def test_of_any_document_each_value_stands_where_it_says(tree):
    lines = []
    for table, pairs in tree.items():
        lines.append(f"[{written(table)}]")
        lines += [f"{written(key)} = {written(value)}  # = [" for key, value in pairs.items()]
    text = "\n".join(lines)
    assert tomllib.loads(text) == tree
    for path, value in leaves((), tree):
        start, end = stands(text)[path].value
        assert tomllib.loads(f"x = {text[start:end]}")["x"] == value


def test_a_setting_is_told_by_the_strongest_place_that_has_it(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[run]\nworkers = 2\nstrict = true\n")
    layers = [
        layer_of_file("configuration file", path),
        Layer("the environment", {"run": {"workers": "3"}}, variables={("run", "workers"): "LMSTREAM_RUN__WORKERS"}),
        Layer("the flags", {"run": {"discard": True}}),
    ]
    assert origin_of(("run", "strict"), layers) == f" (from {path}, line 3)"
    assert origin_of(("run", "workers"), layers) == " (from the environment, LMSTREAM_RUN__WORKERS)"
    assert origin_of(("run", "discard"), layers) == " (from the flags)"
    assert origin_of(("run", "state_dir"), layers) == ""
    assert spot_of(("run", "workers"), layers) is None
    assert spot_of(("run", "strict"), layers, value=True)[:4] == (str(path), 3, 10, 4)


def test_a_file_that_cannot_be_read_is_one_plain_error(tmp_path):
    with pytest.raises(ConfigError, match=r"configuration file .*none\.toml: No such file"):
        layer_of_file("configuration file", tmp_path / "none.toml")


def test_a_key_in_a_list_is_told_with_its_column(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('[[engine.rules]]\nname = "a"\nwhen = { datasorce = "x" }\ndrop = true\n')
    wrong = ("engine", "rules", "0", "when", "datasorce")
    assert origin_of(wrong, [layer_of_file("configuration file", path)]) == f" (from {path}, line 3, column 10)"
