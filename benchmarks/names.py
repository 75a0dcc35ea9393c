# SPDX-License-Identifier: Apache-2.0
"""What stands in the lines of a run, by which the table and the picture find it."""

OURS, RECOMPUTING = "ours", "ours, recompute=true"
PEERS = ("transformers", "torchaudio")
OWN_OBJECTIVE = "torchaudio HuBERT, own objective"
AS_IT_COMES, TUNED = "as it comes", "our threads and allocator"
ONE_THREAD = "one thread, our allocator"
PADDED = "transformers, padded"
HEAD_BF16, HEAD_FP32 = "bf16-mixed", "32-true"  # trainer.precision
KEPT, COMPUTED = "features kept", "features computed at each use"
ONE, EIGHT, EIGHT_RUNS = "one rate", "eight rates", "eight recomputing runs"
