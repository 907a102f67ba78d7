"""The training step: loss terms by name, their weights, and a stop where one is not finite."""

import keras
import tensorflow as tf

from dgn_tf.config import Loss
from dgn_tf.geometry import upright
from dgn_tf.losses import energy as self_supervised
from dgn_tf.losses import supervised
from dgn_tf.network import DualGridNet
from dgn_tf.training import replicas
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
        return {name: replicas.part_of_mean(tf.reduce_mean(t)) for name, t in terms.items()}
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
    return replicas.part_of_mean(mean, tf.reduce_sum(tf.cast(frames, term.dtype)))


class TrainingModel(keras.Model):
    """`DualGridNet` with its losses, for `fit`.

    A step whose terms or gradients are not all finite changes no weight; the callback
    `StopWhenNotFinite` then ends the run by the term's name. Without unlabelled views a step can
    be that of several replicas, see `dgn_tf.training.replicas`.

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
        gradients, total, terms = replicas.summed((gradients, total, terms))
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
            replicas.apply_if(finite, self.optimizer, gradients, variables)
            return {"gradient_norm": norm}
        replicas.apply_if(tf.math.is_finite(total), self.optimizer, gradients, variables)
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
