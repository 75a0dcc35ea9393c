# SPDX-License-Identifier: Apache-2.0
"""Programs: what make runs."""

import os

# torch's OpenMP threads wait for each other in a busy loop. Where another process wants a core, a
# loader or a stranger, that loop takes it: 6.2 s a step in place of 0.2 on two cores. A short loop
# costs a tenth at worst. Read when torch is first imported, and by GNU's OpenMP alone.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
