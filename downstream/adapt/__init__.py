# SPDX-License-Identifier: Apache-2.0
"""How an upstream is adapted to a task: frozen below heads that train, or trained with one."""
