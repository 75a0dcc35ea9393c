# SPDX-License-Identifier: Apache-2.0
"""Kinds of upstreams, found by name: a kind is a file here, `upstream.kind` is its name.

A kind is a module with three functions (`downstream.features.upstream.Kind`):

    load(config: UpstreamConfig) -> tuple[Frozen, str]: the upstream, and the SHA-256 of its weights
    depends_on(config: UpstreamConfig) -> str: keys of its own that features depend on
    recognizes(path: Path) -> bool: whether a file or folder is one of its models
"""
