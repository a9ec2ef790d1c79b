"""Handlers that misbehave, for the emulators' own tests."""

import os
import time

calls = 0


def handler(event, context):
    global calls  # noqa: PLW0603 - an environment's memory is what is tested
    calls += 1
    if event == "raise":
        raise ValueError("no")
    if event == "exit":
        os._exit(3)
    if event == "hang":
        time.sleep(60)
    return {"calls": calls, "left": context.get_remaining_time_in_millis(), "size": len(str(event))}
