# SPDX-License-Identifier: Apache-2.0
"""Classes of a user's own, named in a configuration as module:Class."""

import importlib


def user_class(name: str, *, key: str) -> type:
    """The class that `module:Class` names; the module is one that Python finds.

    Args:
        name: What the configuration says.
        key: Where it says so, for errors.

    Raises:
        ValueError: naming the key, if there is no such module or class.
    """
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(f"{key} must be module:Class, such as my_module:MyClass (got {name})")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        if error.name != module:  # the module is there, what it needs is not
            raise
        raise ValueError(
            f"{key}={name}: there is no module {module} here or among installed packages"
        ) from error
    if not isinstance(found, type):
        raise ValueError(f"{key}={name}: there is no class {attribute} in {module}")
    return found
