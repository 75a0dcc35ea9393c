# SPDX-License-Identifier: Apache-2.0
"""`wavlm finetune`: an encoder and a head trained together."""
