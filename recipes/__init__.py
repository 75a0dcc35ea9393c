# SPDX-License-Identifier: Apache-2.0
"""Programs: what make runs."""

import ctypes
import os

# torch's OpenMP threads wait for each other in a busy loop. Where another process wants a core, a
# loader or a stranger, that loop takes it: 6.2 s a step in place of 0.2 on two cores with torch's
# own number, 0.4 to 0.6 with this one. A tenth of it costs a quarter of a step on a quiet machine.
# Read when torch is first imported, and by GNU's OpenMP alone.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# glibc gives large blocks back to the system when they are freed, and every step waits again until
# the system has zeroed new ones: a quarter of a pass on a processor. Keeping them takes some more
# memory, less than a tenth. Numbers of mallopt as in malloc.h; other C libraries have no mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
if hasattr(_libc := ctypes.CDLL(None), "mallopt"):
    _libc.mallopt(_M_MMAP_MAX, 0)
    _libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
