# SPDX-License-Identifier: Apache-2.0
"""What loading processes share."""

import signal


def leave_signals(_: int) -> None:
    """Ctrl-C and the end of a terminal reach loading processes too; the training one decides."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
