# SPDX-License-Identifier: Apache-2.0
"""`python -m recipes.export`: a model in the layout of another library."""
