# SPDX-License-Identifier: Apache-2.0
"""Progress of what is done before training, in lines."""

import time
from collections.abc import Callable


def counter(what: str) -> Callable[[int, int], None]:
    """A progress function that prints a line every few seconds."""
    state = {"last": time.perf_counter()}

    def show(done: int, total: int) -> None:
        now = time.perf_counter()
        if now - state["last"] > 5 or (done == total and now - state["last"] > 1):
            state["last"] = now
            print(f"{what}: {done} of {total}", flush=True)

    return show
