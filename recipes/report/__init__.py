# SPDX-License-Identifier: Apache-2.0
"""`python -m recipes.report`: results as tables, a page, and archives for the leaderboard."""
