# SPDX-License-Identifier: Apache-2.0
"""What a card says of the weights that were taken."""

import pytest

from wavlm_lightning.recipes.export.model_card import _chosen


@pytest.mark.parametrize(
    ("take", "said"),
    [
        ("best", "40, 60 of 100"),
        ("last", "100 of 100"),
        ("average", "average of the last 3 validations of 100 updates"),
    ],
)
def test_the_card_says_which_updates_were_taken(take: str, said: str) -> None:
    config = {"optim.total_updates": 100, "adaptation.take": take, "adaptation.average": 3}
    best = {"fold1": {"value": 1.0, "update": 40.0}, "fold2": {"value": 2.0, "update": 60.0}}
    assert _chosen({"config": config, "best": best}) == said
