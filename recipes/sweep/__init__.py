# SPDX-License-Identifier: Apache-2.0
"""`wavlm sweep`: a search over settings, on W&B or here."""
