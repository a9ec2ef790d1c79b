"""The account that is asked: clients, waiting, and the few commands that a run consists of."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import boto3

from smoke.plan import Plan

T = TypeVar("T")
PATIENCE: Final = 900.0
"""Seconds for what a service does by itself: a Pipe that starts, a buffer that is written, a message that arrives."""


def say(text: str) -> None:
    """Tell of a step."""
    sys.stderr.write(f"{text}\n")


class World:
    """One account and region, or the emulator that stands for them."""

    def __init__(self, plan: Plan, folder: Path, url: str | None = None) -> None:
        """`url` is the emulator's."""
        self.plan, self.folder, self.url = plan, folder, url
        self.scanned: list[int] = []

    def client(self, service: str) -> Any:
        """A client of a service."""
        return boto3.client(service, region_name=self.plan.region, endpoint_url=self.url)

    def until(self, what: str, look: Callable[[], T], pause: float = 10.0, patience: float = PATIENCE) -> T | None:
        """The first answer that is not empty; None, and a line, when there was none in time."""
        end = time.monotonic() + patience
        while not (found := look()):
            if time.monotonic() > end:
                say(f"{what}: not within {patience:.0f} s")
                return None
            time.sleep(pause)
        return found

    def objects(self, bucket: str, prefix: str = "") -> list[dict[str, Any]]:
        """Objects of a bucket below a prefix."""
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [each for page in pages for each in page.get("Contents", [])]

    def verify(self, log: Path) -> tuple[dict[str, Any], int]:
        """Report and exit code of `lmstream verify`."""
        landing = f"s3://{self.plan.bucket('metrics')}"
        command = [
            sys.executable,
            "-m",
            "lmstream",
            "verify",
            "--json",
            "--expected",
            log,
            "--landed",
            f"{landing}/rows/",
        ]
        command += ["--errors", f"{landing}/errors/", "--s3-region", self.plan.region]
        command += ["--dead-letters", f"s3://{self.plan.bucket('dead-letters')}/dead-letters"]
        command += ["--s3-endpoint-url", self.url] if self.url else []
        # LMSTREAM_DEPLOYMENT is for make alone: lmstream refuses settings that it does not know.
        env = {name: value for name, value in os.environ.items() if not name.startswith("LMSTREAM_")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)  # noqa: S603 - our own
        if not done.stdout.startswith("{"):
            raise SystemExit(f"lmstream verify: exit {done.returncode}: {done.stderr[-2000:]}")
        return json.loads(done.stdout), done.returncode

    def query(self, sql: str) -> tuple[str, str, list[list[str | None]]]:
        """State of a query of Athena, why, and its rows."""
        athena = self.client("athena")
        number = athena.start_query_execution(QueryString=sql, WorkGroup=self.plan.name)["QueryExecutionId"]

        def ended() -> Any:
            found = athena.get_query_execution(QueryExecutionId=number)["QueryExecution"]
            return found if found["Status"]["State"] in ("SUCCEEDED", "FAILED", "CANCELLED") else None

        done = self.until("a query", ended, pause=2.0)
        if done is None:
            return "RUNNING", "it did not end", []
        self.scanned.append(int(done.get("Statistics", {}).get("DataScannedInBytes", 0)))
        state, why = done["Status"]["State"], done["Status"].get("StateChangeReason", "")
        if state != "SUCCEEDED":
            return state, why, []
        rows = athena.get_query_results(QueryExecutionId=number)["ResultSet"]["Rows"][1:]
        return state, why, [[cell.get("VarCharValue") for cell in row["Data"]] for row in rows]
