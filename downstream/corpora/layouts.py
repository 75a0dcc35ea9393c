# SPDX-License-Identifier: Apache-2.0
"""Layouts that users bring: a class of `Corpus` in a module of their own."""

import importlib

from downstream.corpora.corpus import Corpus


def load_layout(name: str) -> type[Corpus]:
    """The class that `module:Class` names; the module is one that Python finds.

    Raises:
        ValueError: naming data.layout, if there is no such module or class.
    """
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(
            f"data.layout must be module:Class, such as my_corpus:Meetings (got {name})"
        )
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        if error.name != module:  # the module is there, what it needs is not
            raise
        raise ValueError(
            f"data.layout={name}: there is no module {module} here or among installed packages"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Corpus)):
        raise ValueError(
            f"data.layout={name}: {attribute} must be a class of downstream.corpora.corpus.Corpus "
            f"in {module}"
        )
    return found
