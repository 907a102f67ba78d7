"""What the programs that train can be told: each setting's name, type, default, range and help.

Each class is one topic. **To add a flag, add one line to its topic**, such as

    similarity_solver: str = setting("svd", "How Eq. 3 is solved.", choices=("svd", "horn"))

and read it as `settings.similarity_solver`. From that line come the flag (`dgn_tf.command_line`),
its place in `--help`, its line in `flags.txt`, its entry in `run.json`, its default in runs that
began before there was such a flag, and what a resumed run is refused for.
"""

import dataclasses
from typing import Any

from dgn_tf.setting import again, setting


@dataclasses.dataclass(frozen=True)
class Run:
    """The run"""

    output_dir: str = setting(
        "",
        "Folder of the run: its checkpoints, best/, last/ and logs. The same command with the same "
        "folder resumes the run.",
        of_run=False,
    )
    steps: int = setting(10_000, "Steps of the whole run.", low=1, may_change=True)
    steps_per_epoch: int = setting(
        250, "Steps between two checkpoints, each with a validation; --steps is a multiple.", low=1
    )
    seed: int = setting(1, "Seed of the initial weights and of the data.", low=0)
    summaries: bool = setting(
        True, "Write scalars and pictures for TensorBoard to summaries/.", may_change=True
    )
    keep_weights: bool = setting(
        False,
        "Keep the weights of every epoch as model folders epochs/STEP; otherwise only best/ and "
        "last/ are kept.",
        may_change=True,
    )
    stop_when_shut: bool = setting(
        True,
        "End the run, by name, where a residual block lets no channel through on any validation "
        "frame.",
        may_change=True,
    )
    smoke: bool = setting(False, "Run over every part of the trainer in about a minute.")


@dataclasses.dataclass(frozen=True)
class Start:
    """Weights to start from"""

    init_weights: str = setting(
        "", "weights.h5 or model folder to start from; empty: random weights by --seed."
    )
    init_other_template: bool = setting(
        False,
        "Take --init_weights although they are of another template: what the networks see of a "
        "depth frame carries over, and the map of the mesh is learnt anew.",
    )
    revive: bool = setting(
        True,
        "Give back the channels of --init_weights that a ReLU lets through on no validation "
        "frame: the network computes the same at first, but they learn again.",
    )


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """Synthetic frames"""

    data: str = setting(
        "online",
        "Where synthetic frames come from: they are synthesised while the run trains, or read "
        "from --synthetic_records.",
        choices=("online", "records"),
    )
    synthetic_records: str = setting(
        "", "Folder of the synthetic records that --data=records reads; empty: none."
    )
    synthesis_config: str = setting(
        "", "JSON file of the sampler; empty: the training sampler's defaults."
    )
    easy_config: str = setting(
        "configs/synthetic_easy.json", "JSON file of the sampler of the first --easy_steps."
    )
    easy_steps: int = setting(
        0, "With --data=online, steps on easy frames at the start; 0: none.", low=0
    )
    pose_prior: str = setting(
        "",
        "File of poses by data_prep.fit_template that on-line frames are drawn from; empty: none.",
        may_change=True,  # it may lie elsewhere: its content is compared
    )


@dataclasses.dataclass(frozen=True)
class Real:
    """Labelled real frames"""

    real_records: str = setting(
        "",
        "Folder of labelled frames, such as data/nyu_records/train; empty: none.",
        may_change=True,  # they may lie elsewhere: their content is compared
    )
    real_fraction: float = setting(
        0.5,
        "With --real_records, their share of each batch, from 0 to 1; 1: they go alone.",
        low=0,
        high=1,
    )
    real_cameras: list[str] | None = setting(
        None, "Numbers of the real or unlabelled cameras to learn from, from 1; empty: all."
    )
    labelled_fraction: float = setting(
        1.0,
        "Share of the time steps whose labels are used, from 0 to 1, evenly spread.",
        low=0,
        high=1,
    )
    held_out: float = setting(
        0.1,
        "Share of the time steps of --real_records (of the labelled ones) or --unlabelled_records "
        "that chooses best/ instead of being learnt from, from 0 to 0.5; 0: none.",
        low=0,
        high=0.5,
    )
    real_validation_frames: int = setting(
        480, "Views of the part held out that are measured, at most.", low=1, may_change=True
    )


@dataclasses.dataclass(frozen=True)
class Unlabelled:
    """Unlabelled views"""

    unlabelled_records: str = setting(
        "",
        "Folder of views to learn from by the energy of Eq. 5, such as data/nyu_records/train; "
        "labels in it are not used. Empty: none.",
        may_change=True,  # they may lie elsewhere: their content is compared
    )
    unlabelled_steps: int = setting(
        8,
        "Unlabelled time steps (single views with --nomulti_view) in a training step, beside "
        "--batch_size synthetic frames.",
        low=1,
    )
    unlabelled_fraction: float = setting(
        1.0,
        "Share of the unlabelled time steps to learn from, above 0 to 1, in ten runs of "
        "neighbouring ones that --seed draws.",
        low=0,
        high=1,
    )
    fit_test_split: bool = setting(
        False,
        "Let --unlabelled_records be the test split: the model fits the very frames that it will "
        "be measured on (without labels; its card says so).",
    )
    multi_view: bool = setting(
        True, "Learn from synchronised unlabelled views together; false: from each view alone."
    )
    energy_weight: float = setting(
        1.0,
        "Weight of the energy against the supervised terms; 0: it is measured, not learnt from.",
        low=0,
    )
    estimates_fraction: float = setting(
        0.0,
        "Share of the synthetic frames that show the network's own estimates of the unlabelled "
        "views (active augmentation, Sec. 4.4), from 0 to 1; 0: none.",
        low=0,
        high=1,
    )


@dataclasses.dataclass(frozen=True)
class EnergyWeights:
    """Energy of Eq. 5 (by the paper's letters, which gives none of their values)"""

    omega: float = setting(
        1.0, "Weight of lifting against ICP (Eq. 6); 0: the energy is without it.", low=0
    )
    lambda1: float = setting(
        1.0, "Weight of the priors: collision, arap and offset (Eq. 5); 0: without.", low=0
    )
    lambda2: float = setting(1.0, "Weight of the multi-view terms (Eq. 5); 0: without.", low=0)
    collision: float = setting(
        1.0, "Weight of collision among the priors (1 in Eq. 9); 0: without.", low=0
    )
    kappa1: float = setting(
        0.01, "Weight of arap among the priors, 1 / mm (Eq. 9); 0: without.", low=0
    )
    kappa2: float = setting(
        0.01, "Weight of offset among the priors, 1 / mm (Eq. 9); 0: without.", low=0
    )
    vertex: float = setting(
        1.0, "Weight of the views' median among the views (1 in Eq. 14); 0: without.", low=0
    )
    eta1: float = setting(1.0, "Weight of ICP against the other views (Eq. 14); 0: without.", low=0)
    eta2: float = setting(
        1.0, "Weight of lifting against the other views (Eq. 14); 0: without.", low=0
    )
    part_icp: float = setting(
        0.0,
        "Weight of ICP part by part: pixels against the nearest vertex of the part that their "
        "correspondence is on; 0: without, as the paper.",
        low=0,
    )
    free_space: float = setting(
        0.0,
        "Weight of vertices where a camera looks past the hand, in each view and the others; "
        "0: without, as the paper.",
        low=0,
    )


@dataclasses.dataclass(frozen=True)
class Network:
    """Hand and network (what is empty is as the preset of --network has it)"""

    template: str = setting("", "Hand template (.npz); empty: the one that ships.")
    embedding: str = setting(
        "layered",
        "Mesh coordinates that the network learns, of those in the template.",
        choices=("layered", "atlas", "mds"),
    )
    network: str = setting(
        "default",
        "Preset that the network's sizes start from; with --init_weights the default is the "
        "network that these are of.",
        choices=("default", "paper"),
    )
    image_channels: list[str] | None = setting(
        None, "Channels of the image hourglass by level, finest first; empty: the preset's."
    )
    mesh_channels: list[str] | None = setting(
        None, "Channels of the mesh hourglass by level, finest first; empty: the preset's."
    )
    blocks: int | None = setting(None, "Residual blocks at each level; empty: the preset's.", low=1)
    features: int | None = setting(
        None, "Channels of the feature map I_f; empty: the preset's.", low=1
    )
    norm: str | None = setting(
        None,
        "Normalisation in the image hourglass; empty: the preset's.",
        choices=("batch", "none"),
    )
    mesh_norm: str | None = setting(
        None,
        "Normalisation in the mesh hourglass; empty: the preset's.",
        choices=("batch", "none"),
    )
    activation: str | None = setting(
        None,
        "Activation of the convolutions; leaky_relu passes a tenth of what is below 0. Empty: the "
        "preset's.",
        choices=("relu", "leaky_relu"),
    )
    scale: str | None = setting(
        None,
        "How SimilarityFit finds the scale; none: it is 1. Empty: the preset's.",
        choices=("umeyama", "symmetric", "none"),
    )
    similarity_solver: str = setting(
        "svd",
        "How a training step finds the rotations of Eq. 3: by SVD, or by the plain arithmetic of "
        "the exported model. Both agree.",
        choices=("svd", "horn"),
        may_change=True,
    )
    extension_stride: int | None = setting(
        None,
        "Pixels that are extended, 1: every one; 2: one of each 2x2 block. Empty: the preset's.",
        low=1,
        high=2,
    )


@dataclasses.dataclass(frozen=True)
class Loss:
    """Supervised losses"""

    loss: str = setting(
        "robust",
        "Form of the terms; robust: Huber in cells and L1 in mm; mse: the squares of Eq. 4, of "
        "points in cube units, so that mm^2 do not drown the cells.",
        choices=("robust", "mse"),
    )
    correspondence_weight: float = setting(
        10.0, "Weight of the I_m term (1 in Eq. 4); 0: without.", low=0
    )
    alpha: float = setting(1.0, "Weight of the P_r term (Eq. 4); 0: without.", low=0)
    vertices_sampled_weight: float = setting(1.0, "Weight of the P_s term; 0: without.", low=0)
    keypoint_weight: float = setting(
        1.0, "Weight of the key points of T, synthetic frames; 0: without.", low=0
    )
    layer_weight: float = setting(
        5.0, "Weight of the layer's cross entropy (templates of two layers); 0: without.", low=0
    )
    real_keypoint_weight: float = setting(
        1.0, "Weight of the key points of T, labelled real frames; 0: without.", low=0
    )
    # Of the palm's direction (`NetworkConfig.upright`): it reaches the layers that find the
    # direction and no other, so no run has had a reason to change it.
    palm_direction_weight: float = 10.0

    def weights(self) -> dict[str, float]:
        """Name of a supervised term -> its weight; the terms themselves are logged unweighted."""
        return {
            "correspondence": self.correspondence_weight,
            "vertices_refined": self.alpha,
            "vertices_sampled": self.vertices_sampled_weight,
            "keypoints": self.keypoint_weight,
            "layer": self.layer_weight,
            "palm_direction": self.palm_direction_weight,
            "real_keypoints": self.real_keypoint_weight,
        }


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """Optimiser"""

    batch_size: int = setting(32, "Frames in a step.", low=1)
    optimizer: str = setting(
        "adamw",
        "Optimiser; muon is Muon for the kernels and AdamW for the rest.",
        choices=("adamw", "muon"),
    )
    learning_rate: float = setting(2e-3, "Rate that is held between its rise and its fall.", low=0)
    warmup_steps: int = setting(300, "Steps of the rate's rise; 0: none.", low=0)
    decay_start: int = setting(
        -1, "Step at which the rate begins to fall; -1: at 60 % of --steps.", may_change=True
    )
    weight_decay: float = setting(1e-4, "The optimiser's decoupled weight decay; 0: none.", low=0)
    clip_norm: float = setting(
        0.0, "Norm that the gradients are clipped to; 0: they are not.", low=0
    )
    ema_momentum: float = setting(
        0.998, "Momentum of the weights' averages, from 0 to 1; 0: there are none.", low=0, high=1
    )


@dataclasses.dataclass(frozen=True)
class Validation:
    """Validation"""

    validation_frames: int = setting(
        480, "Synthetic frames that choose best/.", low=1, may_change=True
    )
    validation_config: str = setting(
        "configs/synthetic_val_2.json",
        "JSON file of the validation split's sampler.",
        may_change=True,
    )


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices and arithmetic"""

    jit_compile: bool = setting(
        False, "Compile the step with XLA (slower on CPU, see docs/benchmarks.md)."
    )
    mixed_precision: bool = setting(
        False, "Convolve in --mixed_precision_type, for GPUs; geometry and losses stay float32."
    )
    mixed_precision_type: str = setting(
        "float16",
        "Type of --mixed_precision's convolutions. With float16 the loss is scaled; steps whose "
        "gradients overflow are left out, and log.csv has their share as steps_left_out.",
        choices=("float16", "bfloat16"),
    )
    bfloat16: bool = setting(
        False,
        "Convolve and multiply matrices of the training step in bfloat16, for CPUs with AVX-512 "
        "BF16 or AMX.",
    )
    strategy: str = setting(
        "one",
        "Devices: one; all of this process, which share each batch; or those of every worker "
        "process that TF_CONFIG names.",
        choices=("one", "mirrored", "multiworker"),
        may_change=True,  # the arithmetic is the same but for rounding
    )
    worker_wait_s: float = setting(
        300.0,
        "With --strategy=multiworker, the longest wait for the other workers at the start, "
        "seconds.",
        low=0,
        of_run=False,
    )


@dataclasses.dataclass(frozen=True)
class Train(
    Run,
    Start,
    Synthetic,
    Real,
    Unlabelled,
    EnergyWeights,
    Network,
    Loss,
    Optimisation,
    Validation,
    Devices,
):
    """All that `dgn_tf.train` can be told, by topic."""


# What --smoke sets.
SMOKE: dict[str, Any] = {
    "steps": 12,
    "steps_per_epoch": 6,
    "batch_size": 8,
    "validation_frames": 8,
    "real_validation_frames": 8,
    "unlabelled_steps": 2,
}


@dataclasses.dataclass(frozen=True)
class TrainLocaliser(Optimisation):
    """All that `dgn_tf.train_localiser` can be told."""

    output_dir: str = again(Run, "output_dir", "")
    template: str = again(Network, "template", "")
    steps: int = again(Run, "steps", 4000)
    steps_per_epoch: int = again(Run, "steps_per_epoch", 200)
    seed: int = again(Run, "seed", 1)
    init_weights: str = setting(
        "",
        "Folder of a localiser to start from (dgn_tf/localize/assets is the one that ships); "
        "empty: random weights by --seed.",
    )
    validation_frames: int = again(Validation, "validation_frames", 500)
    batch_size: int = again(Optimisation, "batch_size", 48)
    warmup_steps: int = again(Optimisation, "warmup_steps", 100)
    decay_start: int = setting(
        -1, "Step at which the rate begins to fall; -1: at 40 % of --steps.", may_change=True
    )
    clip_norm: float = again(Optimisation, "clip_norm", 5.0)
    ema_momentum: float = again(Optimisation, "ema_momentum", 0.99)
