"""The figures of benchmarks/ mean something only if the corpus is the same everywhere and all make the same rows."""

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from benchmarks import __main__ as report
from benchmarks import (
    baselines,
    change,
    charts,
    docs,
    figures,
    load,
    measure,
    memory,
    peer_files,
    peer_programs,
    peers,
    scale,
    workers,
    yardstick,
)
from benchmarks.corpus import SIZES, corpus
from benchmarks.report import RESULTS, read, write
from benchmarks.report import charts as drawn_of
from hypothesis import given
from hypothesis import strategies as st

SAMPLE = {"small": 8, "medium": 3, "large": 1}


@pytest.mark.parametrize("size", SIZES)
def test_the_corpus_is_the_same_every_time(size):
    one, two = (corpus(size, bundles=2) for _ in range(2))
    assert one == two
    assert one != corpus(size, bundles=2, minute=1)


def test_the_corpus_is_the_same_on_every_machine():
    digest = hashlib.sha256(b"".join(record.value for record in corpus("small", bundles=20).records))
    assert digest.hexdigest()[:16] == "2bdc57ee9e41842a"


@pytest.mark.parametrize(("size", "least", "most"), [("small", 10, 30), ("medium", 100, 300), ("large", 1500, 2500)])
def test_bundles_have_about_the_rows_their_size_says(size, least, most):
    rows = corpus(size, bundles=10).rows
    assert least < sum(rows) / len(rows) < most


def test_the_next_minute_brings_the_same_instances_with_new_times():
    def identities(minute):
        lines = baselines.orjson_lines(corpus("small", bundles=1, minute=minute).records[0]).splitlines()
        rows = [json.loads(line) for line in lines]
        return [(row["deviceId"], row["datasource"], row["metric"], row["type"]) for row in rows], rows[0]["tsUnixMs"]

    before, now = identities(0), identities(1)
    assert before[0] == now[0]
    assert before[1] + 60_000 == now[1]


@pytest.mark.parametrize("size", SIZES)
def test_engine_and_baselines_make_the_same_rows(size):
    assert measure.verify(size, SAMPLE[size]) == sum(corpus(size, bundles=SAMPLE[size]).rows)


def test_a_baseline_that_makes_other_rows_is_not_measured(monkeypatch):
    monkeypatch.setitem(baselines.JSON_BASELINES, "wrong", lambda record: baselines.orjson_lines(record)[:-2] + b" }\n")
    measure.verify("small", 1)  # white space is no difference
    monkeypatch.setitem(
        baselines.JSON_BASELINES, "wrong", lambda record: baselines.orjson_lines(record).replace(b"acme", b"emca", 1)
    )
    with pytest.raises(measure.MismatchError, match="small bundle 0: wrong differs"):
        measure.verify("small", 1)


def test_every_figure_is_measured_and_judged_with_slack():
    for each in figures.FIGURES:
        assert {each.of, each.to} <= set(report.MEASURED[each.size])

    def judged(value, need=2.0, **more):
        return figures.figure("f", value, "x", figures.Goal(need, 3.0), "native", of="CPU time", **more)

    assert [judged(value)["passed"] for value in (1.87, 1.89, 9.0)] == [False, True, True]
    assert [judged(value, lower=True)["passed"] for value in (0.1, 2.11, 2.13)] == [True, True, False]
    assert figures.figure("f", 1.0, "x", of="CPU time")["passed"] is None
    assert figures.verdict(judged(1.5)) == "MISSED by 25%"
    assert figures.verdict(judged(1.5, gates=False)) == "missed by 25%"
    assert figures.verdict(judged(1.9)) == "within slack, 5% short"
    assert [figures.verdict(judged(value)) for value in (2.5, 3.5)] == ["need met", "aim met"]


def test_the_exit_code_says_which_engine_misses_a_need():
    def found(by, value, **more):
        return figures.figure("f", value, "x", figures.Goal(2.0), by, of="CPU time", **more)

    assert figures.exit_code([found("plain", 3.0), found("native", 3.0)]) == 0
    assert figures.exit_code([found("plain", 1.0), found("native", 3.0)]) == 1
    assert figures.exit_code([found("plain", 3.0), found("native", 1.0)]) == 4
    assert figures.exit_code([found("plain", 1.0), found("native", 1.0), found("", 3.0)]) == 5
    assert figures.exit_code([found("plain", 1.0, gates=False), found("native", 3.0)]) == 0


def test_the_plain_engine_is_measured_beside_the_native_part():
    from lmstream.native import native

    for by in yardstick.engines():
        with yardstick.switched(by):
            assert (native("scan") is None) == (by == "plain")
    assert [figures.variant(name, "plain") for name in ("engine cold", "orjson")] == ["engine cold, plain", "orjson"]


def test_a_benchmark_starts_itself_again_with_a_heap_that_stays():
    script = "from benchmarks.yardstick import malloc, settle; settle(); print(malloc())"
    env = {name: value for name, value in os.environ.items() if name not in yardstick.THRESHOLDS}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    told = "malloc trims above 256 MiB, maps above 32 MiB" if sys.platform == "linux" else "malloc as it comes"
    assert done.stdout.strip() == told


def test_every_benchmark_settles_the_heap_before_it_measures():
    no_figures = {"docs", "report", "scale"}
    for path in Path(report.__file__).parent.glob("*.py"):
        text = path.read_text("utf-8")
        if '__name__ == "__main__"' in text and path.stem not in no_figures:
            assert '__name__ == "__main__":\n    settle()\n' in text, path.name


def test_what_workers_say_is_summed_and_the_line_of_all_of_them_is_not():
    line = "done in 3.2 s (49,770 rows/s): 800 records, 160,000 rows delivered, 0 dead letters"
    told = f"worker 2: {line}\nworker 1: {line}\n2 workers: {line}\n"
    assert workers.DONE.findall(told) == [("3.2", "160,000")] * 2
    assert workers.DONE.findall(line) == [("3.2", "160,000")]


def test_a_short_measurement_gives_figures_shares_and_json():
    names = ("engine, plain", "orjson", "decode, plain", "fan_out, plain")
    timing = measure.measure("small", names, rounds=2, share=100)
    assert (timing.bundles, timing.rows) == (10, sum(corpus("small", minute=1, bundles=10).rows))
    assert {len(seconds) for seconds in timing.seconds.values()} == {2}
    assert sum(timing.shares("engine, plain").values()) == pytest.approx(1)
    raw = json.loads(json.dumps(report.as_json({"small": timing}, [], [])))
    assert raw["sizes"]["small"]["rows"] == timing.rows
    assert raw["machine"]["python"].startswith("CPython 3.")
    assert raw["machine"]["build"]


@pytest.mark.slow
def test_the_recorded_runs_make_one_page_without_network_and_real_pictures(tmp_path):
    page, *pictures = write(tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in text
    assert 2 * text.count("<svg") == len(pictures) >= len(read(RESULTS)), "each light and dark"
    for picture in pictures:
        data = picture.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(data[16:20], "big") == charts.ZOOM * (charts.WIDTH + 2 * charts.MARGIN)


def test_a_page_says_what_was_not_run(tmp_path):
    (page,) = write(tmp_path / "page.html", tmp_path)
    assert "make bench-load" in page.read_text(encoding="utf-8")


def test_a_longer_bar_is_a_larger_value_and_names_are_escaped():
    drawn = charts.bars("t", [charts.Bar("<a>", 1, "one"), charts.Bar("b", 4, "four")])
    widths = [float(text.split('"')[0]) for text in drawn.split('width="')[2:]]
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01)
    assert "<a>" not in drawn


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_ticks_are_round_few_and_told_apart_by_their_labels(most):
    found = charts.ticks(most)
    step = found[1]
    assert 3 <= len(found) <= 7
    assert found[0] == 0
    assert found[-2] < most * (1 + 1e-9) <= found[-1] * (1 + 1e-8)
    assert f"{step:.1e}"[:3] in {"1.0", "2.0", "2.5", "5.0"}
    said = charts.labels(found)
    assert len(set(said)) == len(said)
    assert [float(text.replace(",", "")) for text in said] == pytest.approx(found)


def test_no_name_of_a_bar_begins_outside_the_picture():
    name = "n" * 60
    drawn = charts.bars("t", [charts.Bar(name, 1, "one"), charts.Bar("b", 4, "four", mark=2.0)])
    (right,) = (float(x) for x in re.findall(rf'<text x="([\d.]+)"[^>]*>{name}<', drawn))
    assert right - charts.LETTER * len(name) >= 0
    assert max(float(x) for x in re.findall(r'<text x="([\d.]+)"', drawn)) < charts.WIDTH


def test_axes_of_small_numbers_have_decimals_and_those_of_large_ones_round_thousands():
    drawn = charts.lines("t", {"cpu": [(0, 0), (7704, 0.67)]}, "rows", "cores")
    assert re.findall(r">([\d.,]+)</text>", drawn) == [
        "0.0",
        "0.2",
        "0.4",
        "0.6",
        "0.8",
        "0",
        "2,000",
        "4,000",
        "6,000",
    ]


def test_the_legend_has_a_line_of_its_own_and_only_where_there_is_something_to_tell_apart():
    points = [(0, 0), (10, 10)]
    assert charts.lines("t", {"one": points}, "x", "y").count(">one<") == 0
    drawn = charts.lines("t", {"one": points, "another": points}, "x", "unit of y")
    tops = {text: float(y) for y, text in re.findall(r'y="([\d.]+)"[^>]*>([^<]+)</text>', drawn)}
    assert tops["t"] + 12 < tops["one"] == tops["another"] < tops["unit of y"] - 12 < tops["10"]


def test_a_chart_as_a_file_has_every_colour_light_and_dark_and_nothing_from_the_network():
    drawn = charts.adaptive(charts.bars("t", [charts.Bar("a", 1, "one", mark=1.0)], ("reached", "not")))
    assert "var(" not in drawn
    assert "prefers-color-scheme:dark" in drawn
    for use in re.findall(r'class="((?:fill|stroke)-\w+)"', drawn):
        assert f".{use}{{" in drawn
    assert ET.fromstring(drawn).tag.endswith("svg")


def test_lmstream_has_its_own_colour_in_whatever_host():
    found = read(RESULTS)
    drawn = drawn_of(found)["peers"]
    ours = re.findall(r'fill="var\(--a\)"><title>([^:]+): ', drawn)
    assert ours == ["lmstream", "lmstream, from Kafka"]
    assert len(re.findall(r'fill="var\(--b\)"><title>', drawn)) == len(
        [peer for peer in found["peers"]["peers"] if peer["ns_per_row"]]
    ) - len(ours)


def test_the_knee_is_the_last_rate_that_was_kept_up_with():
    def step(rate, settled, late=10.0):
        return {
            "asked_rows_per_second": rate,
            "rows_per_second": rate,
            "settled_rows_per_second": settled,
            "p99_ms": late,
        }

    assert load.knee([step(1, 1), step(2, 2), step(4, 3)]) == step(2, 2)
    assert load.knee([step(1, 1), step(2, 2, 2000.0), step(3, 3)]) == step(1, 1)
    assert load.knee([step(1, 0.5)]) is None


def test_memory_is_judged_by_peak_and_slope_after_the_warm_up():
    samples = [(0.0, 10.0, 0.0), *((float(at), 100.0 + at / 60, at / 2) for at in range(60, 600, 10))]
    found = memory.judge({"seconds": 600, "samples": samples})
    assert found["slope_mib_per_minute"] == pytest.approx(1.0)
    assert found["peak_mib"] == pytest.approx(100 + 590 / 60)
    assert found["cpu_share"] == pytest.approx(0.5)


def test_the_baseline_peer_makes_the_rows_of_the_engine_and_a_wrong_row_is_seen(tmp_path):
    bundles, one, two = (tmp_path / name for name in ("bundles", "one", "two"))
    bundles.write_bytes(b"\n".join(record.value for record in corpus("small", bundles=3).records) + b"\n")
    source = peer_files.Source(bundles, 3, 0)
    peer_files.lmstream(source, one)
    peer_files.plain_orjson(source, two)
    assert peers.parsed(one, ()) == peers.parsed(two, ()) != []
    two.write_bytes(two.read_bytes().replace(b"acme", b"emca", 1))
    assert peers.parsed(one, ()) != peers.parsed(two, ())


def test_scale_grows_every_part_and_names_the_first_limit():
    found = scale.steps(100_000)
    for before, after in itertools.pairwise(found):
        assert after.rows_per_second == pytest.approx(10 * before.rows_per_second)
        assert after.members >= before.members
        assert after.usd > before.usd
        assert after.first_limit
    last = found[-1]
    assert last.members * 100_000 * scale.HEADROOM >= last.rows_per_second
    assert last.stream_mib >= last.rows_mib
    assert last.partitions >= last.members


def test_the_pages_show_the_recorded_runs_and_what_scale_computes():
    for name in ("scale.md", "benchmarks.md"):
        page = (docs.DOCS / name).read_text(encoding="utf-8")
        assert docs.fill(page, docs.blocks(read(RESULTS))) == page


def test_the_pictures_of_the_page_are_those_of_the_recorded_runs():
    page = (docs.DOCS / "benchmarks.md").read_text(encoding="utf-8")
    drawn = drawn_of(read(RESULTS))
    assert {path.stem for path in (docs.DOCS / "pictures").iterdir()} == set(docs.PICTURES) <= set(drawn)
    for name in docs.PICTURES:
        assert f"](pictures/{name}.svg)" in page
        kept = (docs.DOCS / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
        assert kept == charts.adaptive(drawn[name]), "python -m benchmarks.docs"


def test_every_peer_names_its_version_and_who_cannot_be_had_is_named(monkeypatch, tmp_path):
    for name, module in peer_programs.GO.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", peer_programs.version_of(module)), name
        assert (peer_programs.SOURCES / name / "main.go").is_file()
    assert peer_programs.version_of("example.com/other") is None
    monkeypatch.setattr(peer_programs, "BUILT", tmp_path)
    with pytest.raises(FileNotFoundError, match="connect was not built"):
        peer_programs.connect(peer_files.Source(tmp_path / "none", 0, 0), tmp_path / "rows")
    assert set(peers.NOT_HERE).isdisjoint(peer.name for peer in peers.PEERS)


def test_a_change_is_told_by_medians_and_by_pairs():
    told = {"ns_per_row": {"engine, small": {"before": [100.0, 300.0, 200.0], "after": [50.0, 100.0, 100.0]}}}
    assert change.table(told)[1] == ["engine, small", "200 ns", "100 ns", "0.50"]
