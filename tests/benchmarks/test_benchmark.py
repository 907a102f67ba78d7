"""The benchmark's sections on a model small enough to be quick; no figure is judged here."""

import json
import sys

import pytest

from tests.exported_model import network, new_network
from tests.tiny_template import tiny_template
from tests.written_records import write_records


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    from dgn_tf.records.batches import Batching
    from dgn_tf.records.reader import record_dataset

    folder = write_records(tmp_path_factory.mktemp("records"), tiny_template(), count=4)
    return next(
        iter(
            record_dataset(
                str(folder), tiny_template(), batching=Batching(batch_size=4, shuffle=False)
            )
        )
    )


def training_model():
    import tensorflow as tf

    from dgn_tf.config import Loss
    from dgn_tf.training.step import TrainingModel

    model = TrainingModel(new_network(), Loss())
    model.compile(tf.keras.optimizers.AdamW(1e-4), jit_compile=False)
    return model


def test_inference_has_a_figure_for_each_batch_size(batch, monkeypatch):
    from benchmarks import machine
    from benchmarks.training import measure_inference

    monkeypatch.setattr(machine, "MATRIX_SIZE", 256)

    figures = measure_inference(network(), batch, rounds=3, sizes=(1, 4))
    assert list(figures) == ["batch_1", "batch_4"]
    for values in figures.values():
        assert values["ms_per_frame"] > 0 and values["share_of_matrix_rate"] > 0


def test_predictor_is_held_to_the_forward_pass_on_the_same_crop(tmp_path):
    from benchmarks.predictor import measure_predictor
    from dgn_tf.model_folder import save_model_folder
    from tests.exported_model import INTRINSICS, blob_frame, exported_model

    (tmp_path / "1").symlink_to(exported_model() / "1")
    save_model_folder(network(), tmp_path)
    figures = measure_predictor(tmp_path, blob_frame(), INTRINSICS, frames=3)
    jobs = ("frame", "forward", "network", "locate")
    times = {f"{name}_ms_p{q}" for name in jobs for q in (50, 99)}
    assert set(figures) == times | {"frame_to_forward", "frame_to_network", "locate_to_forward"}
    assert all(value > 0 for value in figures.values())


def main(arguments):
    from absl import flags

    from dgn_tf import benchmark

    flags.FLAGS.unparse_flags()
    flags.FLAGS(["benchmark", *arguments])
    benchmark.main([])


PARTS = "synthesis,training,inference,predictor,stages,exported,pipeline,memory"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--what=speed"], f"--what=speed: wanted some of {PARTS}."),
        (["--what="], f"--what=: wanted some of {PARTS}."),
        (
            ["--saved_model=none", "--what=predictor"],
            "--saved_model none: no such folder; give the folder of an exported model, such as "
            "saved_models/dgn.",
        ),
        (
            ["--what=exported", "--forms=a=none"],
            "--forms none: no such folder; give the folder of an exported model, such as "
            "saved_models/dgn.",
        ),
        (
            ["--what=exported", "--batch_sizes=1,many"],
            "--batch_sizes=1,many: wanted numbers of 1 or more, such as 1,8,32.",
        ),
        (
            ["--what=exported", "--batch_sizes=0,8"],
            "--batch_sizes=0,8: wanted numbers of 1 or more, such as 1,8,32.",
        ),
        (
            ["--what=exported", "--devices=TPU"],
            "--devices=TPU: wanted some of CPU,GPU.",
        ),
        (
            ["--what=exported", "--forms=runs/a"],
            "--forms=runs/a: wanted NAME=PATH, each name once, such as fp32=runs/a,int8=runs/b.",
        ),
        (
            ["--what=exported", "--forms=a=x.tflite"],
            "--forms: x.tflite does not exist; python -m dgn_tf.export --litert writes such files.",
        ),
        (
            ["--what=synthesis", "--plot=speed.gif"],
            "--plot=speed.gif: the name is to end in .png, .pdf or .svg.",
        ),
    ],
)
def test_bad_flags_are_named(arguments, message, monkeypatch, tmp_path):
    from dgn_tf.errors import InputError

    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        main(arguments)
    assert str(error.value) == message


def test_a_device_that_is_not_there_is_named(monkeypatch):
    import tensorflow as tf

    from dgn_tf.errors import InputError
    from tests.exported_model import exported_model

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind] * (kind == "CPU"))
    monkeypatch.setattr("benchmarks.inputs.model_inputs", lambda *_: None)
    message = "--devices=GPU: TensorFlow sees no GPU here, only CPU."
    with pytest.raises(InputError, match=f"^{message}$"):
        main([f"--saved_model={exported_model()}", "--what=exported", "--devices=GPU"])


def test_figures_print_one_a_line_with_nested_ones_indented():
    from dgn_tf.benchmark import lines

    text = lines({"a": {"x": 1.23456, "stage": {"ms": 2.0, "rate": None}}, "b": 3})
    assert text == [
        "a",
        f"  {'x':32}{'1.235':>12}",
        f"  {'stage':16}ms 2, rate -",
        f"{'b':32}{'3':>12}",
    ]


def test_what_is_compared_read_and_repeated_is_said_by_flags(monkeypatch, tmp_path):
    """The measurements have tests of their own: here it is what they are asked for."""
    from benchmarks import exported, forms, inputs, memory, pipeline
    from tests.exported_model import exported_model

    asked = {}

    def noted(name):
        def measure(*arguments):
            asked[name] = arguments
            return {"name": name}

        return measure

    made = inputs.Inputs({}, {})
    monkeypatch.setattr(inputs, "model_inputs", lambda *_: made)
    monkeypatch.setattr(forms, "load_form", lambda path, flag="": (path, flag))
    for module, name in (
        (exported, "compare"),
        (exported, "measure_forms"),
        (pipeline, "measure_pipeline"),
        (memory, "measure_serving"),
        (memory, "measure_work"),
    ):
        monkeypatch.setattr(module, name, noted(name))
    records = write_records(tmp_path / "records", tiny_template(), count=2)
    model = f"--saved_model={exported_model()}"
    main(
        [
            model,
            "--what=exported,pipeline,memory",
            "--batch_sizes=2",
            "--devices=CPU",
            "--rounds=5",
            "--frames=11",
            f"--compare={exported_model()}/1",
            f"--benchmark_records={records}",
            "--memory_requests=13",
            "--memory_batches=3",
            f"--json={tmp_path / 'figures.json'}",
        ]
    )
    assert asked["measure_forms"][-3:] == ([2], 5, 11)
    assert asked["compare"] == (
        (str(exported_model()), "--saved_model"),
        (f"{exported_model()}/1", "--compare"),
        made,
        [2],
        5,
    )
    settings, rounds = asked["measure_pipeline"]
    assert settings.records == str(records) and rounds == 5
    assert asked["measure_serving"][-1] == 13
    assert asked["measure_work"][1:] == (str(records), 3)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["compare"]["CPU"] == {"name": "compare"}
    assert figures["memory"]["work"] == {"name": "measure_work"}
    asked.clear()
    main([model, f"--compare={exported_model()}/1", "--devices=CPU"])
    assert set(asked) == {"compare"}  # alone, where nothing else is asked for


def test_a_trace_of_training_is_written_where_it_is_asked_for(batch, monkeypatch, tmp_path):
    from benchmarks import training
    from dgn_tf.training import building

    monkeypatch.setattr(building, "build_model", lambda *_: training_model())
    monkeypatch.setattr(building, "build_optimizer", lambda _: None)
    monkeypatch.setattr(training, "training_batch", lambda *_: batch)
    monkeypatch.setattr(training, "measure_training", lambda *_: {})
    main(["--what=training", f"--profile_dir={tmp_path / 'trace'}"])
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


def test_without_the_repositorys_benchmarks_one_line_says_where_they_are(monkeypatch):
    from dgn_tf.errors import InputError

    monkeypatch.setitem(sys.modules, "benchmarks", None)  # as where a wheel alone is installed
    with pytest.raises(InputError, match="folder benchmarks/ of the repository"):
        main(["--what=training"])
