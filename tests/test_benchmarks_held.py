"""A need of the plain engine is held where the revision that set it takes as much CPU, and nowhere else."""

import json
from pathlib import Path

import pytest
from benchmarks import __main__ as report
from benchmarks import change, docs, figures, held, latency, measure
from benchmarks.report import RESULTS, read


def missing(by="plain", name="transform against orjson", value=2.0, need=2.4, **more):
    """A figure that misses its need beyond the slack."""
    more = {"size": "small", "of": "CPU time, ratio"} | more
    return figures.figure(name, value, "x", figures.Goal(need), by, **more)


def taking(*ratios):
    """Today's engine takes these of the reference's CPU, for every case that is asked for."""
    return lambda cases, _rounds: {case: list(ratios) for case in cases}


def never(cases, _rounds):
    raise AssertionError(cases)


def test_a_plain_figure_that_the_reference_misses_as_well_is_held_and_does_not_gate():
    (figure,) = held.held([missing()], measured=taking(0.90, 0.98, 1.30))
    assert figures.exit_code([figure]) == 0
    assert figures.verdict(figure) == "held: c1321ad takes as much here (0.98 of it), and reaches 1.96 x"
    assert (figure["value"], figure["need"], figure["passed"]) == (2.0, 2.4, False), "the need stays what it was"
    assert figure == json.loads(json.dumps(figure))
    (same,) = held.held([missing()], measured=taking(1 + figures.SLACK))
    assert figures.exit_code([same]) == 0


def test_a_plain_figure_that_the_reference_does_better_at_gates():
    (figure,) = held.held([missing()], measured=taking(1.2, 0.9, 1.3))
    assert figures.exit_code([figure]) == 1
    assert figures.verdict(figure) == "MISSED by 17%; c1321ad takes less here (1.20 of it), and reaches 2.40 x"
    (slower,) = held.held([missing()], measured=taking(1.07))
    assert figures.exit_code([slower]) == 1


def test_where_lower_is_better_the_reference_reaches_less_than_a_slower_engine():
    typed = missing(
        name="transform against msgspec's full typed decode", value=2.4, need=1.6, size="medium", lower=True
    )
    (figure,) = held.held([typed], measured=taking(1.2))
    assert figure["reference"]["reaches"] == pytest.approx(2.0)


def test_neither_the_native_part_nor_a_sink_is_held():
    found = [missing("native"), missing(name="CPU of a row, two workers against one", lower=True, value=3.0)]
    assert held.held(found, measured=never) == found
    assert figures.exit_code(found) == 5


def test_what_reaches_its_need_is_not_measured_again():
    found = [missing(value=2.4), missing(value=2.3), missing(need=2.4, gates=False)]
    assert held.held(found, measured=never) == found


def test_each_variant_that_missed_is_measured_once():
    asked = []

    def measured(cases, rounds):
        asked.append((cases, rounds))
        return taking(1.0)(cases, rounds)

    more = {"value": 0.1, "need": 1.0, "size": "medium"}
    names = ("transform against orjson", "protobuf against upb attribute access and orjson")
    typed = "transform against msgspec's full typed decode"
    found = [*(missing(name=name, **more) for name in names), missing(name=typed, **more | {"value": 9.0}, lower=True)]
    found = held.held(found, rounds=3, measured=measured)
    assert asked == [([("medium", "engine, plain"), ("medium", "engine protobuf, plain")], 3)]
    assert figures.exit_code(found) == 0


def test_without_the_reference_a_miss_gates_and_the_verdict_says_why():
    def shallow(_cases, _rounds):
        raise change.UnmeasuredError("fatal: not a valid object name")

    reached = missing(value=9.0)
    figure, other = held.held([missing(), reached], measured=shallow)
    assert (figures.exit_code([figure]), other) == (1, reached)
    assert figures.verdict(figure) == ("MISSED by 17%; c1321ad cannot be measured here: fatal: not a valid object name")


def test_a_revision_that_is_not_in_the_history_and_a_tree_that_does_not_run_say_so(tmp_path, monkeypatch):
    with pytest.raises(change.UnmeasuredError, match="git does not have it: "):
        change.source_of("0" * 40, tmp_path, native=False)
    with pytest.raises(change.UnmeasuredError, match="lmstream"):
        change.asked(tmp_path, ("transform", "small", "engine, plain"))  # that tree has none: not another's instead
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(change.UnmeasuredError, match="git does not run"):
        change.source_of(held.REFERENCE, tmp_path, native=False)


def test_both_trees_are_asked_by_turns_and_a_ratio_is_of_one_turn():
    before, after, asked = Path("before"), Path("after"), []
    answers = {before: iter([100.0, 200.0, 100.0]), after: iter([110.0, 180.0, 130.0])}

    def ask(source, told):
        asked.append((source, told))
        return next(answers[source])

    found = held.ratios([("small", "engine, plain")], 3, before, after, ask)
    assert found == {("small", "engine, plain"): pytest.approx([1.1, 0.9, 1.3])}
    assert [source for source, _ in asked] == [after, before, before, after, after, before]
    assert {told for _, told in asked} == {("transform", "small", "engine, plain")}


@pytest.mark.parametrize(("ratio", "flags", "code"), [(1.0, (), 0), (1.2, (), 1), (1.2, ("--no-gate", "--quick"), 0)])
def test_a_run_whose_plain_engine_misses_every_need_ends_by_what_the_reference_takes(
    ratio, flags, code, monkeypatch, tmp_path, capsys
):
    spent = {"orjson": 1.5, "typed decode": 0.5, "upb": 1.5, "json toy": 9.0}

    def measured(size, names, *, rounds):
        took = {name: [spent.get(name, 1.0 if name.endswith(measure.PLAIN) else 0.1)] * rounds for name in names}
        return measure.Timing(size, 10, 1, 100, took)

    rounds = set()

    def reference(cases, of):
        rounds.add(of)
        return taking(ratio)(cases, of)

    monkeypatch.setattr(report, "verify", lambda *_: 0)
    monkeypatch.setattr(report, "measure", measured)
    monkeypatch.setattr(latency, "measured", lambda _: [])
    monkeypatch.setattr(held, "against_reference", reference)
    kept = tmp_path / "run.json"
    assert report.main(["--transform", "--json", str(kept), *flags]) == code
    assert rounds == {report.QUICK_ROUNDS if "--quick" in flags else held.ROUNDS}
    needed = sum(each.plain is not None for each in figures.FIGURES)
    recorded = [figure for figure in json.loads(kept.read_text("utf-8"))["figures"] if "reference" in figure]
    assert len(recorded) == needed == 6
    assert {figure["engine"] for figure in recorded} == {"plain"}
    said = "held: c1321ad takes as much" if ratio == 1.0 else "c1321ad takes less here"
    told = capsys.readouterr()
    assert told.out.count(said) == told.err.count(said) == needed


def test_the_pages_show_what_is_held_and_read_runs_that_were_recorded_before():
    runs = read(RESULTS)
    before = [missing(), missing("native")]
    (figure,) = held.held(before[:1], measured=taking(0.98))
    shown = docs.blocks(runs | {"bench": runs["bench"] | {"figures": [*before, figure]}})["figures"].splitlines()[2:]
    assert [row.split(" | ")[-1] for row in shown] == [
        "MISSED by 17% |",
        "MISSED by 17% |",
        "held: c1321ad takes as much here (0.98 of it), and reaches 1.96 x |",
    ]
