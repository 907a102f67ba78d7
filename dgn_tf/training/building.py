"""Model and optimiser of a run, by its settings (flag name -> value)."""

from dgn_tf.errors import InputError

# Flags of the same names as fields of `NetworkConfig`.
CHOICES = (
    "blocks",
    "features",
    "norm",
    "mesh_norm",
    "activation",
    "scale",
    "extension_stride",
)
# Flags of the same names as `EnergyConfig`'s weights.
ENERGY = (
    "omega",
    "lambda1",
    "lambda2",
    "collision",
    "kappa1",
    "kappa2",
    "vertex",
    "eta1",
    "eta2",
    "free_space",
)


def build_model(template, settings: dict):
    """The compiled `TrainingModel` with its weights; see `build_optimizer` for the rest."""
    import tensorflow as tf

    from dgn_tf.network import DualGridNet
    from dgn_tf.training import bfloat16
    from dgn_tf.training.schedule import WarmupHoldDecay, averaging_optimizer
    from dgn_tf.training.step import LossConfig, TrainingModel

    if settings["mixed_precision"]:
        tf.keras.mixed_precision.set_global_policy("mixed_float16")
    if settings["bfloat16"]:
        bfloat16.switch_on()
    network = DualGridNet(template, network_config(settings))
    network.similarity_fit.solver = settings["similarity_solver"]
    network(network.example_inputs())
    losses = LossConfig(
        settings["correspondence_weight"],
        settings["alpha"],
        settings["vertices_sampled_weight"],
        settings["keypoint_weight"],
        settings["layer_weight"],
        settings["loss"],
        settings["real_keypoint_weight"],
    )
    steps, start = settings["steps"], settings["decay_start"]
    start = int(0.6 * steps) if start < 0 else start
    schedule = WarmupHoldDecay(settings["learning_rate"], settings["warmup_steps"], start, steps)
    optimizer = averaging_optimizer(
        settings["optimizer"], schedule, settings["weight_decay"], settings["ema_momentum"]
    )
    if settings["mixed_precision"]:
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
    energy = None
    if settings["unlabelled_records"]:
        from dgn_tf.losses.energy import Energy, EnergyConfig

        energy = Energy(template, EnergyConfig(**{name: settings[name] for name in ENERGY}))
    model = TrainingModel(
        network,
        losses,
        settings["clip_norm"],
        energy,
        settings["energy_weight"],
        settings["seed"],
    )
    model.compile(optimizer, jit_compile=settings["jit_compile"])
    return model


def build_optimizer(model) -> None:
    """Makes the optimiser's moments and averages; the averages begin at the present weights."""
    from dgn_tf.training.callbacks import inner_optimizer

    inner_optimizer(model.optimizer).build(model.network.trainable_variables)


def network_config(settings: dict):
    """The preset of --network with the sizes that flags name."""
    import dataclasses

    from dgn_tf.network_config import PRESETS

    given = {name: settings[name] for name in CHOICES if settings[name] is not None}
    for name in ("image_channels", "mesh_channels"):
        if settings[name]:
            try:
                given[name] = tuple(int(c) for c in settings[name])
            except ValueError:
                raise InputError(f"--{name} wants whole numbers, got {settings[name]}.") from None
    return dataclasses.replace(PRESETS[settings["network"]], **given)
