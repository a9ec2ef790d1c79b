"""The readers of JSON tables that Athena's are made of, fetched with Maven and run on rows of ours."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from lmstream import spec

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "serde"
FETCH_SECONDS = 600


class MissingError(Exception):
    """What is not installed here."""


class Reader(NamedTuple):
    """A reader: its jars, its program, the Java that it needs."""

    name: str
    program: str
    java: int


OPENX = Reader("openx", "OpenX", 17)
"""The fork that has been kept up, with every property that AWS documents."""
OLDEST = Reader("oldest", "OpenX", 17)
"""Its author's release of 2016, before `case.insensitive` was a property: it always folds, and refuses keys twice."""
TRINO = Reader("trino", "Trino", 24)
"""Trino's own since version 413; Athena engine 3 follows Trino."""


def java_home(least):
    """Folder of a JDK of at least that version: JAVA_HOME, that of `javac`, or one beside it. Raises MissingError."""
    found = shutil.which("javac")
    own = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    beside = sorted(Path(found).resolve().parents[2].glob("*")) if found else []
    for home in (*own, *beside):
        if (javac := home / "bin" / "javac").exists():
            said = subprocess.run([javac, "-version"], capture_output=True, text=True, check=False)
            major = re.search(r"javac (\d+)", said.stdout + said.stderr)
            if major and int(major[1]) >= least:
                return home
    raise MissingError(f"a JDK {least} or newer")


def compiled(reader):
    """Class path of the reader's program: fetched and compiled once for these sources. Raises MissingError."""
    home, pom, source = java_home(reader.java), HERE / f"{reader.name}.xml", HERE / f"{reader.program}.java"
    older = sorted((HERE / reader.name).rglob("*.java"))
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in (pom, source, *older))).hexdigest()[:12]
    folder = BUILD / f"{reader.name}-{digest}"
    if not folder.is_dir():
        if not shutil.which("mvn"):
            raise MissingError("Maven")
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        try:
            goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
            command = ["mvn", "-B", "-q", "-C", "-f", pom, goal, f"-DoutputDirectory={partial}"]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                raise MissingError(
                    f"what {pom.name} names, from Maven's repository, within {FETCH_SECONDS} s"
                ) from None
            if done.returncode:
                raise MissingError(f"what {pom.name} names, from Maven's repository: {done.stdout[-500:]}")
            javac = [home / "bin/javac", "-nowarn", "-cp", f"{partial}/*", "-d", partial, *older, source]
            subprocess.run(javac, capture_output=True, text=True, check=True)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return f"{folder}/*:{folder}"


def read(reader, lines, properties, folder):
    """What the reader makes of each line with the table's columns and these properties: a row, or {"error": …}."""
    columns = spec.glue_columns()
    table = {
        "columns": ",".join(column["Name"] for column in columns),
        "columns.types": ":".join(column["Type"] for column in columns),
        **properties,
    }
    (folder / "table.properties").write_text("".join(f"{key}={value}\n" for key, value in table.items()))
    command = [
        java_home(reader.java) / "bin/java",
        "-cp",
        compiled(reader),
        reader.program,
        folder / "table.properties",
    ]
    done = subprocess.run(command, input=b"\n".join(lines) + b"\n", capture_output=True, timeout=120, check=False)
    said = [json.loads(line) for line in done.stdout.decode().splitlines() if line.startswith('{"')]
    assert len(said) == len(lines), done.stderr.decode()[-2000:]
    return [each.get("row", each) for each in said]
