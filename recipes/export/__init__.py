# SPDX-License-Identifier: Apache-2.0
"""`wavlm export`: a model in the layout of another library."""
