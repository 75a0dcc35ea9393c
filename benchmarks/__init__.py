# SPDX-License-Identifier: Apache-2.0
"""Speed and memory beside other implementations, in one run: `make bench`."""
