# SPDX-License-Identifier: Apache-2.0
"""`python -m recipes.finetune`: an encoder and a head trained together."""
