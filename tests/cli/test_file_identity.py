"""Run files twice into one folder: what is new is seen, what is the same is one, as the view `rows` shows it."""

import io
import json

import pytest


@pytest.fixture
def seen(cli, tmp_path, monkeypatch):
    """Land files, and count rows that landed and rows that the view shows."""
    monkeypatch.chdir(tmp_path)

    def land(*args):
        said = cli("run", *args, "--org", "acme", "--landed", "landed")
        assert said.code == 0, said.err
        counted = cli(
            "query", "--landed", "landed", "--json", "select (select count(*) from landed) l, count(*) r from rows"
        )
        assert counted.code == 0, counted.err
        (line,) = map(json.loads, counted.out.splitlines())
        return line["l"], line["r"]

    return land


def test_other_content_under_the_same_names_hides_nothing(bundles, seen):
    _, made = bundles(6, seed=1)
    rows = sum(each.rows for each in made)
    assert seen("--files", "bundles") == (rows, rows)
    _, other = bundles(6, seed=2)
    more = rows + sum(each.rows for each in other)
    assert seen("--files", "bundles") == (more, more)


def test_the_same_content_is_one_whatever_its_name_or_folder_is(bundles, seen):
    folder, made = bundles(6)
    rows = sum(each.rows for each in made)
    assert seen("--files", "bundles") == (rows, rows)
    for number, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        path.rename(folder / f"moved-{number}.json")
    assert seen("--files", folder) == (rows, rows)  # it has landed already
    (folder / "more.json").write_bytes(next(folder.glob("*.json")).read_bytes())
    _, many = seen("--files", folder)  # another list of contents
    assert rows < many < 2 * rows
    both, ids = seen("--files", folder, "--set", "source.identity=name")
    assert (both, ids) == (rows + 2 * many, 2 * many)


def test_two_copies_in_one_run_are_two_records(bundles, seen):
    folder, (bundle,) = bundles(1)
    (folder / "copy.json").write_bytes(bundle.payload)
    assert seen("--files", "bundles") == (2 * bundle.rows, 2 * bundle.rows)
    assert seen("--files", "bundles") == (2 * bundle.rows, 2 * bundle.rows)


def test_inspect_shows_the_ids_that_a_run_gives(cli, bundles, seen, monkeypatch):
    folder, (bundle,) = bundles(1)
    assert seen("--files", "bundles") == (bundle.rows, bundle.rows)
    landed = cli("query", "--landed", "landed", "--json", "select rowId from rows").out
    (path,) = folder.iterdir()
    for target in (path, "-"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bundle.payload)))
        said = cli("inspect", target, "--rows", "--json", "--org", "acme", "--limit", bundle.rows)
        shown = [json.loads(line)["rowId"] for line in said.out.splitlines() if '"rowId"' in line]
        assert sorted(shown) == sorted(json.loads(line)["rowId"] for line in landed.splitlines())
