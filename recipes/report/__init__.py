# SPDX-License-Identifier: Apache-2.0
"""`wavlm table`: results as tables, a page, and archives for the leaderboard."""
