# SPDX-License-Identifier: Apache-2.0
"""Programs: what make runs."""

import ctypes
import logging
import os

# torch's OpenMP threads wait for each other in a busy loop, which takes a core that another process
# wants. A step of the mini model beside eight busy processes on two cores took 3.5 s of the
# processors with torch's own number, 0.6 with 10000 or 3000, 0.4 with 1000; alone 0.3. Alone, on
# the clock, 3000 is the fastest: 10000 takes 5 % longer, 1000 a fifth, 300 twice as long. One Zen 4
# host. Read when torch is first imported, and by GNU's OpenMP alone.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

# Where Triton is not installed torch says at every start that it cannot count its operations.
logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)

# glibc gives large blocks back to the system when they are freed, and every step waits again until
# the system has zeroed new ones: a quarter of a pass on a processor. Keeping them takes some more
# memory, less than a tenth. Numbers of mallopt as in malloc.h; other C libraries have no mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
if hasattr(_libc := ctypes.CDLL(None), "mallopt"):
    _libc.mallopt(_M_MMAP_MAX, 0)
    _libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
