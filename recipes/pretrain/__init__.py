# SPDX-License-Identifier: Apache-2.0
"""`wavlm pretrain`: recordings, labels, iterations of training."""
