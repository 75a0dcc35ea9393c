# SPDX-License-Identifier: Apache-2.0
"""`wavlm superb`: a task on a frozen upstream."""
