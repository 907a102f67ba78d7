"""The training step: loss terms by name, their weights, and a stop where one is not finite."""

import keras
import tensorflow as tf

from dgn_tf.config import Loss
from dgn_tf.geometry import upright
from dgn_tf.losses import energy as self_supervised
from dgn_tf.losses import supervised
from dgn_tf.network import DualGridNet
from dgn_tf.training.estimates import EstimateRing
from dgn_tf.training.unlabelled import UNLABELLED, energy_terms, run_together


def supervised_terms(outputs, batch, config: Loss) -> dict[str, tf.Tensor]:
    """Terms of positive weight, name -> [B]; see --loss in `config.Loss` for the units.

    `outputs` are those of `DualGridNet`; `batch` is an example of `dgn_tf.records` with targets.
    """
    weights = config.weights()
    mask = batch["correspondence_mask"]
    terms = {}
    if weights["correspondence"]:
        terms["correspondence"] = supervised.correspondence_loss(
            outputs["mesh_coords"],
            batch["mesh_coords"],
            mask,
            "mse" if config.loss == "mse" else "huber",
        )
    if weights["layer"] and "layer_logits" in outputs:
        terms["layer"] = supervised.layer_loss(outputs["layer_logits"], batch["mesh_layer"], mask)
    if weights["palm_direction"] and "palm_direction" in outputs:
        axis = upright.rotate(batch["palm_axis"], upright.view_from_camera(batch["centre"]))
        terms["palm_direction"] = supervised.direction_loss(outputs["palm_direction"], axis[:, :2])
    for name, output, truth in (
        ("vertices_refined", "vertices", "vertices"),
        ("vertices_sampled", "vertices_sampled", "vertices"),
        ("keypoints", "keypoints", "keypoints"),
    ):
        if weights[name]:
            terms[name] = _point_term(outputs[output], batch[truth], batch["cube"], config)
    return terms


def _point_term(points, truth, cube, config: Loss, valid=None):
    """`point_loss` in mm, or of `mse` in cube units: of the order of one, as squared cells are."""
    if config.loss != "mse":
        return supervised.point_loss(points, truth, "l1", valid)
    half_cube = cube[:, tf.newaxis, tf.newaxis] / 2
    return supervised.point_loss(points / half_cube, truth / half_cube, "mse", valid)


def mean_terms(outputs, batch, config: Loss) -> dict[str, tf.Tensor]:
    """Terms of positive weight, name -> mean over the frames that have their truth.

    In a batch with `is_real` (see `dgn_tf.training.real_frames.mix`) the terms of
    `supervised_terms` are the synthetic frames' and `real_keypoints` the real ones'. So weights
    mean the same whatever the share of real frames is.

    In a step of several replicas these are the parts of one of them: they add up to the means
    over the frames of all.
    """
    if "is_real" not in batch:
        terms = supervised_terms(outputs, batch, config)
        return {name: part_of_mean(tf.reduce_mean(t)) for name, t in terms.items()}
    terms = {}
    if "vertices" in batch:
        synthetic = ~batch["is_real"]
        for name, term in supervised_terms(outputs, batch, config).items():
            terms[name] = _mean_of(term, synthetic)
    if config.real_keypoint_weight:
        valid = batch["keypoints_valid"]
        term = _point_term(outputs["keypoints"], batch["keypoints"], batch["cube"], config, valid)
        labelled = batch["is_real"] & (tf.reduce_sum(valid, axis=1) > 0)
        terms["real_keypoints"] = _mean_of(term, labelled)
    return terms


def _mean_of(term, frames):
    """Mean of `term` [B] over the frames of a mask [B]; 0 where there is none."""
    mean = supervised.masked_mean(term[tf.newaxis], frames[tf.newaxis])[0]
    return part_of_mean(mean, tf.reduce_sum(tf.cast(frames, term.dtype)))


class TrainingModel(keras.Model):
    """`DualGridNet` with its losses, for `fit`.

    A step whose terms or gradients are not all finite changes no weight; the callback
    `StopWhenNotFinite` then ends the run by the term's name. Without unlabelled views a step can
    be that of several replicas, see `dgn_tf.training.step`.

    Args:
        network: to train.
        losses: weights of the supervised terms.
        clip_norm: of the gradients; 0: none.
        energy: of the unlabelled views, which batches of `put_beside` have; None: they have none.
        energy_weight: of the energy against the supervised terms.
        seed: of the pixels that the energy draws at each step.
        estimates: where each step leaves what it estimated for the unlabelled views, if anywhere.
    """

    def __init__(
        self,
        network: DualGridNet,
        losses: Loss,
        clip_norm: float = 0.0,
        energy: self_supervised.Energy | None = None,
        energy_weight: float = 1.0,
        seed: int = 0,
        estimates: EstimateRing | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.network = network
        self.loss_config = losses
        self.clip_norm = clip_norm
        self.energy, self.energy_weight, self.seed = energy, energy_weight, seed
        self.estimates = estimates
        # What a step returns is the same on all replicas.
        self.distribute_reduction_method = "first"

    def call(self, inputs, training=None):
        return self.network(inputs, training=training)

    @tf.autograph.experimental.do_not_convert  # no control flow of Python: traced in half the time
    def train_step(self, batch):
        """Forward pass and terms, their sum, its gradients, and a step of the optimiser."""
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            if self.energy is None:
                terms, logged = self.supervised_step(batch)
            else:
                terms, logged = self.energy_step(batch, self.energy)
            total = supervised.weighted_sum(terms, self.weights_of_terms())
            scaled = self.optimizer.get_scaled_loss(total) if self._scales_loss else total
        gradients = tape.gradient(scaled, variables)
        if self._scales_loss:
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        gradients, total, terms = summed((gradients, total, terms))
        norm = tf.linalg.global_norm(gradients)
        if self.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm, use_norm=norm)
        logged |= self._apply(gradients, total, norm)
        return {"loss": total, **terms, **logged}

    @property
    def _scales_loss(self) -> bool:
        return isinstance(self.optimizer, keras.mixed_precision.LossScaleOptimizer)

    def _apply(self, gradients, total, norm) -> dict:
        """A step of the optimiser where all is finite; returns what is logged of it.

        Gradients that overflow under a finite loss are float16's: the optimiser leaves the step out
        and lowers its scale; the step counts all the same, so that a run can resume.
        """
        variables = self.network.trainable_variables
        finite = tf.math.is_finite(total) & tf.math.is_finite(norm)
        if not self._scales_loss:
            apply_if(finite, self.optimizer, gradients, variables)
            return {"gradient_norm": norm}
        apply_if(tf.math.is_finite(total), self.optimizer, gradients, variables)
        left_out = tf.math.is_finite(total) & ~finite
        return {
            "gradient_norm": tf.where(left_out, 0.0, norm),
            "steps_left_out": tf.cast(left_out, tf.float32),
        }

    def weights_of_terms(self) -> dict[str, float]:
        """Name of any term of a step -> its weight in the loss."""
        weights = self.loss_config.weights()
        if self.energy is not None:
            of_energy = self.energy.config.weights().items()
            weights |= {name: self.energy_weight * weight for name, weight in of_energy}
        return weights

    def supervised_step(self, batch) -> tuple[dict, dict]:
        """The means of the supervised terms, unweighted, and what else is logged: nothing."""
        return mean_terms(self.network(batch, training=True), batch, self.loss_config), {}

    def energy_step(self, batch, energy: self_supervised.Energy) -> tuple[dict, dict]:
        """As `supervised_step`, with the energy's terms of the unlabelled views beside.

        The draw of pixels goes with the step: it can resume.
        """
        of_views, outputs = run_together(self.network, batch, training=True)
        step = self.optimizer.iterations
        draw = tf.stack([tf.constant(self.seed, tf.int64), step])
        found = energy_terms(energy, of_views, batch[UNLABELLED], self.network.sampling, draw)
        logged = {}
        if self.estimates is not None:
            transforms = tf.stop_gradient(of_views["transforms"])
            logged["estimates_kept"] = self.estimates.write(step, transforms, found["usable"])
        terms = mean_terms(outputs, batch, self.loss_config)
        return terms | self_supervised.mean_terms(found), logged


# Inside the training step: what its replicas, one on each device, have in common.
#
# A replica computes the part that its frames have in the terms of the whole batch; parts and their
# gradients add up to what a single device would get. With one replica nothing here adds an
# operation to the step.


def count() -> int:
    """Replicas of the step that is being traced."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def part_of_mean(mean: tf.Tensor, frames: tf.Tensor | None = None) -> tf.Tensor:
    """What a mean over this replica's frames contributes to that over all replicas' frames.

    Args:
        mean: over this replica's frames; 0 where none of them counts.
        frames: how many counted, float32; None: all, and equally many on every replica.
    """
    if count() == 1:
        return mean
    if frames is None:
        return mean / count()
    return mean * frames / tf.maximum(summed(tf.stop_gradient(frames)), 1.0)


def summed(values):
    """Sums over the replicas of a structure of tensors; None in it stays None."""
    if count() == 1:
        return values
    flat = tf.nest.flatten(values)
    found = [value for value in flat if value is not None]
    # In one call: it packs many small tensors into a few large messages.
    totals = iter(tf.distribute.get_replica_context().all_reduce("sum", found))
    flat = [None if value is None else next(totals) for value in flat]
    return tf.nest.pack_sequence_as(values, flat)


def apply_if(finite: tf.Tensor, optimizer, gradients, variables) -> None:
    """Applies gradients that are `summed` already where `finite`, the same on all replicas."""
    pairs = list(zip(gradients, variables, strict=True))
    if not tf.distribute.has_strategy():

        def apply():
            optimizer.apply_gradients(pairs)
            return tf.constant(True)

        tf.cond(finite, apply, lambda: tf.constant(False))
        return
    pairs = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
    gradients, variables = zip(*pairs, strict=True)

    def apply_on_replica(gradients):
        pairs = zip(gradients, variables, strict=True)
        optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)

    def apply_on_all(strategy, finite, gradients):
        def apply():
            strategy.extended.call_for_each_replica(apply_on_replica, args=(gradients,))
            return tf.constant(True)

        finite = strategy.experimental_local_results(finite)[0]
        tf.cond(finite, apply, lambda: tf.constant(False))

    # An optimiser can't leave a replica from within a condition: the condition comes first.
    tf.distribute.get_replica_context().merge_call(apply_on_all, args=(finite, gradients))
