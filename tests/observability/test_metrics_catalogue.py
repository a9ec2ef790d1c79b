"""The one table of counters: each row reads something, and what hosts show is what it names."""

import msgspec

from lmstream.abilities import Health
from lmstream.cli.ending import sentence
from lmstream.delivery import Counts, Snapshot, Sums
from lmstream.observability.metrics_catalogue import CATALOGUE, total, values
from lmstream.runtime import Progress, RunSnapshot

STRUCTS = (Counts, Snapshot, RunSnapshot, Health)
EXPECTED_TWICE = {"state", "throttled"}  # of the source's health, too; the table means the first struct that has it


def test_every_row_that_reads_a_field_names_one():
    fields = {name for each in STRUCTS for name in each.__struct_fields__}
    assert {metric.read for metric in CATALOGUE if metric.read} <= fields


def test_no_field_name_is_in_two_structs_by_accident():
    names = [name for each in STRUCTS for name in each.__struct_fields__]
    assert {name for name in names if names.count(name) > 1} == EXPECTED_TWICE


def test_names_are_unique_and_labels_fit_what_is_read():
    for key in ("name", "emf", "read", "status"):
        told = [value for metric in CATALOGUE if (value := getattr(metric, key))]
        assert len(told) == len(set(told)), key
    counts = Counts()
    for metric, value in values(counts, Health()):
        assert isinstance(value, dict) == bool(metric.labels), metric.name


def test_the_first_struct_that_has_a_field_is_read():
    by_name = {metric.name: value for metric, value in values(Counts(throttled=3), Health(throttled=9))}
    assert by_name["lmstream_sink_throttled_total"] == 3


def test_a_total_is_of_all_labels():
    assert (total({"a": 2, "b": 3}), total(7)) == (5, 7)


def test_the_last_line_says_every_counter_that_it_should_in_this_order():
    progress = Progress(
        records=9,
        rows=1234,
        rows_in_flight=5,
        rows_dead=6,
        sums=Sums(records=9, understood=4, empty=5, points=1260, rows=1245, skipped=7, rejected=8),
        dead_letters=1,
        tombstones=2,
        undecodable=3,
        parts_undecodable=4,
        empty=5,
        all_skipped=6,
        skipped={"value.nan": 7, "record.tombstone": 2},
        rejected={"value.two": 8},
        noted={"part.nan": 9},
        unknown=["$.a"],
        retried_packs=10,
        duration=2.0,
    )
    assert sentence(progress) == (
        "done in 2.0 s (617 rows/s): 9 records, 1,234 rows delivered, 1 dead letters, 2 tombstones, 3 records "
        "undecodable, 4 parts undecodable, 5 records empty, 6 records without a row (all points skipped), skipped 7 "
        "value.nan, rejected 8 value.two, noted 9 part.nan, fields that OTLP metrics do not define: $.a, 10 packs sent "
        "again, 6 rows refused by the sink, in dead letters, 5 rows in flight; "
        "records: 9 = 4 understood + 5 empty + 0 tombstones + 0 undecodable; "
        "points of understood records: 1,260 = 1,245 rows + 7 skipped + 8 rejected"
    )
    assert sentence(Progress()).startswith(
        "done in 0.0 s (0 rows/s): 0 records, 0 rows delivered, 0 dead letters, 0 rows in flight; records: 0 = "
    )


def test_progress_has_what_the_last_line_and_machines_read():
    said = {metric.read for metric in CATALOGUE if metric.said}
    assert said <= {*Progress.__struct_fields__, "accepted"}
    assert "accepted" not in msgspec.to_builtins(Progress())
