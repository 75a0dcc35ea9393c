# SPDX-License-Identifier: Apache-2.0
"""`python -m recipes.sweep`: a search over settings, on W&B or here."""
