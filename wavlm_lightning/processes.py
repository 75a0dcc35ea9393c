# SPDX-License-Identifier: Apache-2.0
"""What loading processes share."""

import signal


def leave_signals(_: int) -> None:
    """Ctrl-C reaches loading processes too: the training process decides, they go with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
