"""Model and optimiser of a run, by its settings."""

import dataclasses
import pathlib

from dgn_tf.config import EnergyWeights, Train
from dgn_tf.errors import InputError


def build_model(template, settings: Train):
    """The compiled `TrainingModel` with its weights; see `build_optimizer` for the rest."""
    import keras

    from dgn_tf.network import DualGridNet
    from dgn_tf.training import schedule
    from dgn_tf.training.schedule import WarmupHoldDecay, averaging_optimizer
    from dgn_tf.training.step import TrainingModel

    if settings.bfloat16:
        schedule.switch_on()
    before = keras.mixed_precision.global_policy()
    if settings.mixed_precision:
        # Of the layers that ask for no type of their own: convolutions, not geometry.
        keras.mixed_precision.set_global_policy(f"mixed_{settings.mixed_precision_type}")
    try:
        network = DualGridNet(template, network_config(settings))
    finally:
        keras.mixed_precision.set_global_policy(before)
    network.similarity_fit.solver = settings.similarity_solver
    network(network.example_inputs())
    steps, start = settings.steps, settings.decay_start
    start = int(0.6 * steps) if start < 0 else start
    schedule = WarmupHoldDecay(settings.learning_rate, settings.warmup_steps, start, steps)
    optimizer = averaging_optimizer(
        settings.optimizer, schedule, settings.weight_decay, settings.ema_momentum
    )
    if settings.mixed_precision and settings.mixed_precision_type == "float16":
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    energy = None
    if settings.unlabelled_records:
        from dgn_tf.losses.energy import Energy, EnergyConfig

        weights = {
            field.name: getattr(settings, field.name) for field in dataclasses.fields(EnergyWeights)
        }
        energy = Energy(template, EnergyConfig(**weights))
    model = TrainingModel(
        network,
        settings,
        settings.clip_norm,
        energy,
        settings.energy_weight,
        settings.seed,
    )
    model.compile(optimizer, jit_compile=settings.jit_compile)
    return model


def build_optimizer(model) -> None:
    """Makes the optimiser's moments and averages; the averages begin at the present weights."""
    from dgn_tf.training.callbacks import inner_optimizer

    inner_optimizer(model.optimizer).build(model.network.trainable_variables)


def _network_of(weights: str):
    """The NetworkConfig in the model folder of --init_weights; None where none is described."""
    from dgn_tf.model_folder import CONFIG, described_network

    folder = pathlib.Path(weights) if weights else None
    if folder is not None and folder.is_file():
        folder = folder.parent
    return described_network(folder) if folder and (folder / CONFIG).is_file() else None


def network_config(settings: Train):
    """The network of --init_weights, else the preset of --network, with what flags name."""
    from dgn_tf.network_config import PRESETS

    own = _network_of(settings.init_weights) if settings.network == "default" else None
    preset = own or PRESETS[settings.network]
    given = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(preset)
        if getattr(settings, field.name, None) is not None
    }
    for name in ("image_channels", "mesh_channels"):
        try:
            given[name] = tuple(int(channels) for channels in given.get(name) or ())
        except ValueError:
            raise InputError(f"--{name} wants whole numbers, got {given[name]}.") from None
        if not given[name]:
            del given[name]
    return dataclasses.replace(preset, **given)
