# SPDX-License-Identifier: Apache-2.0
"""The tasks, one module each, found by their names."""
