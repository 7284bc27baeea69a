"""Waiting for what has to come about some time, and not for ever."""

import time


def wait_until(what, holds, seconds, pause=0.1):
    """Looks every `pause` seconds; `what` says what is waited for: a text, or a function that gives one at the end."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(pause)
