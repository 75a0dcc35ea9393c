# SPDX-License-Identifier: Apache-2.0
"""`python -m recipes.superb`: a task on a frozen upstream."""
