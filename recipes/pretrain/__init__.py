# SPDX-License-Identifier: Apache-2.0
"""`python -m recipes.pretrain`: recordings, labels, iterations of training."""
