# SPDX-License-Identifier: Apache-2.0
"""Layouts that users bring: a class of `Corpus` in a module of their own."""

from wavlm_lightning.downstream.corpora.corpus import Corpus
from wavlm_lightning.user_classes import user_class


def load_layout(name: str) -> type[Corpus]:
    """The class that `module:Class` names.

    Raises:
        ValueError: naming data.layout, if there is no such module or class.
    """
    found = user_class(name, key="data.layout")
    if not issubclass(found, Corpus):
        raise ValueError(
            f"data.layout={name}: {found.__name__} must be a class of "
            f"wavlm_lightning.downstream.corpora.corpus.Corpus in {found.__module__}"
        )
    return found
