"""`lmstream plugin new`: a package of a part of your own, with the test that holds it to what such parts promise."""

from pathlib import Path

from lmstream.cli import skeletons, terminal
from lmstream.cli.skeletons import Kind
from lmstream.errors import ConfigError


def new(kind: Kind, name: str, /, *, dir: Path | None = None) -> int:  # noqa: A002 - the flag's name
    """Write a package for a sink, a source, a codec, a transform or a place of dead letters.

    It works as it is written, on SQLite, on lines of text or on rows, and its test passes: replace what is in it step
    by step.

    Parameters
    ----------
    kind
        sink, source, codec, transform, or place (of dead letters).
    name
        Name of the module, as acme_table.
    dir
        Folder to write. Default: the name with hyphens, in this folder.
    """
    made = skeletons.files(kind, name)
    folder = dir or Path(name.replace("_", "-"))
    there = [file for file in made if (folder / file).exists()]
    if there:
        raise ConfigError("config.invalid", f"{folder / there[0]} is there already", "give another --dir, or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in made.items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as e:
        raise ConfigError("config.invalid", f"{folder}: {e.strerror or e}", "give a folder that can be written") from e
    for file in made:
        print(folder / file)
    terminal.say(f"next: cd {folder} && python -m pytest -q, then put your own service in the place of what is there")
    terminal.say("what each part promises: docs/extending.md")
    return 0
