# SPDX-License-Identifier: Apache-2.0
"""What trains, built from a configuration: heads on a frozen upstream, or an encoder with one."""

from pathlib import Path
from typing import Any

from wavlm_lightning.downstream.adapt.adapted import Adapted
from wavlm_lightning.downstream.adapt.finetuner import Finetuner, shape_of
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.adapt.policy import ENCODER
from wavlm_lightning.downstream.adapt.probe import Probe
from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.features.featurizer import FeaturizerConfig
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.downstream.upstreams.wavlm import WavLMUpstream
from wavlm_lightning.model.wavlm import WavLM
from wavlm_lightning.recipes.superb.checkpoints import read_state
from wavlm_lightning.recipes.superb.feature_source import FeatureSource
from wavlm_lightning.recipes.superb.heads import heads_of
from wavlm_lightning.recipes.superb.settings import TaskSettings


def build_module(
    settings: TaskSettings,
    upstream: Frozen,
    task: TrainedTask[Any],
    data: TaskData,
    source: FeatureSource,
) -> Adapted:
    """The module of a training.

    Args:
        settings: Of the training.
        upstream: As it was loaded; an encoder that trains begins with a copy of its weights.
        task: With its recordings.
        data: Its batches.
        source: How heads on a frozen upstream come by features.
    """
    if settings.tuned:
        return _finetuner(settings, upstream, task, data)
    heads = heads_of(settings.heads, lr=settings.optim.lr, seed=settings.seed)
    learners = [
        Learner(task, upstream, source.featurizer, lr=h.lr, seed=h.seed, name=h.name) for h in heads
    ]
    return Probe(upstream, learners, settings.optim, cache=source.cache, means=source.means)


def _finetuner(
    settings: TaskSettings, upstream: Frozen, task: TrainedTask[Any], data: TaskData
) -> Finetuner:
    assert settings.model is not None
    assert isinstance(upstream.upstream, WavLMUpstream)
    model = WavLM(settings.model)
    model.load_state_dict(upstream.upstream.model.state_dict())
    model.recompute_blocks(settings.recompute)
    layer = settings.featurizer.layer
    if isinstance(layer, int) and layer > settings.model.num_layers:
        raise ValueError(
            f"featurizer.layer must be at most {settings.model.num_layers}, the encoder's last "
            f"(got {layer})"
        )
    # The encoder gives the layer that is wanted, and no other.
    featurizer = FeaturizerConfig(
        normalize=settings.featurizer.normalize, lengths=settings.featurizer.lengths
    )
    shape = shape_of(model, layer)
    learner = Learner(task, shape, featurizer, lr=settings.optim.lr, seed=settings.seed)
    module = Finetuner(
        model,
        learner,
        settings.optim,
        settings.adaptation,
        settings.masking,
        layer=layer,
        symbols=learner.task.symbols,
        rows_of_update=data.plan.rows,
    )
    if settings.compile:
        model.compile_regions()
    return module


def begin_from(module: Adapted, checkpoint: Path) -> None:
    """Give a module the weights that the stage before left.

    Raises:
        ValueError: naming the checkpoint, if they are of other layers or another head.
    """
    state = read_state(checkpoint)
    (learner,) = module.all_learners()
    try:
        if isinstance(module, Finetuner):
            module.begin_from(state)
        else:
            learner.load_state_dict({k: v for k, v in state.items() if not k.startswith(ENCODER)})
    except RuntimeError as error:
        raise ValueError(
            f"{checkpoint} does not fit this stage: featurizer.layer and the head's sizes must be "
            f"those of the stage before ({error})"
        ) from error
