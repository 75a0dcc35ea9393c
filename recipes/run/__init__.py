# SPDX-License-Identifier: Apache-2.0
"""What every program shares: configuration sections, processes, the folder of a run, its Trainer.

Knows no task and no objective: the rooms of programs give it what is trained.
"""
