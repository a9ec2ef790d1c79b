"""`lmstream telemetry`: the catalogue of metrics, alarms for Prometheus and a dashboard for Grafana."""

import json
import re
from importlib import resources
from typing import Annotated, Final

from cyclopts import Parameter

from lmstream.cli import terminal
from lmstream.cli.tables import Column, Wide, table
from lmstream.observability.metrics_catalogue import CATALOGUE

RUNBOOK: Final = "docs/runbook.md"
_TOLD: Final = ("name", "emf", "kind", "unit", "help", "labels", "served")  # of a metric


def ls(*, wide: Wide = False, as_json: Annotated[bool, Parameter(name="--json")] = False) -> int:
    """List all metrics: the name that Prometheus knows, that of CloudWatch, and what it counts.

    Parameters
    ----------
    wide
        Show all columns in full, however wide the terminal is.
    as_json
        Print one JSON object per metric and line.
    """
    if as_json:
        terminal.print_lines({key: getattr(each, key) for key in _TOLD} for each in CATALOGUE)
        return 0
    headers = (
        Column("Prometheus", 1, "id"),
        Column("CloudWatch", 4, "id"),
        Column("kind", 5, "whole"),
        Column("unit", 3, "whole"),
        Column("labels", 6),
        Column("what", 2, "prose"),
    )
    rows = (
        (each.name if each.served else "", each.emf, each.kind, each.unit, " ".join(each.labels), each.help)
        for each in CATALOGUE
    )
    table(headers, rows, wide=wide)
    return 0


def prometheus(*, runbook: str | None = None) -> int:
    """Print the alarms as a rule file for Prometheus.

    Parameters
    ----------
    runbook
        Address of the runbook that each alarm links to. Without it alarms name the command that explains them.
    """
    rules = _file("rules.yaml")
    if runbook is None:  # a link into the void helps nobody at night
        rules = re.sub(rf'runbook_url: "{re.escape(RUNBOOK)}#([a-z-]+)"', r'explain: "lmstream explain \1"', rules)
    else:  # as it stands inside double quotes of YAML
        rules = rules.replace(RUNBOOK, json.dumps(runbook)[1:-1])
    print(rules, end="")
    return 0


def grafana() -> int:
    """Print a dashboard for Grafana, to be imported as it is."""
    print(_file("dashboard.json"), end="")
    return 0


def _file(name: str) -> str:
    return resources.files("lmstream.observability").joinpath(name).read_text(encoding="utf-8")
