# SPDX-License-Identifier: Apache-2.0
"""Errors that pre-training and the tasks share."""


class NonFiniteLossError(ArithmeticError):
    """The loss is NaN or infinite; the message says in which update, for which utterances."""
