"""A SavedModel in this process, run as a server runs it: by a session."""

import pathlib

from dgn_tf.errors import InputError, reason

_START = "__saved_model_init_op"  # the signature whose output is run before any other


class SessionModel:
    """The signatures of a SavedModel, numpy arrays in and out.

    `tf.saved_model.load` gives the same answers, to the bit, and keeps a Python object of every
    node beside: 32 to 42 MB for the shipped model, by how many signatures run. Nothing of the
    object graph is made here.

    Args:
        proto: the SavedModel, which `allow_list.read_saved_model` has let through.
        folder: where it was read: of its variables and assets.

    Raises:
        InputError: the graph or its variables are damaged.
    """

    def __init__(self, proto, folder):
        import tensorflow as tf

        graph_of_model, folder = proto.meta_graphs[0], pathlib.Path(folder)
        # Names of tensors by the names of inputs and of outputs. The proto itself is not kept.
        self.signatures = {
            name: tuple(
                {key: info.name for key, info in infos.items()}
                for infos in (spec.inputs, spec.outputs)
            )
            for name, spec in graph_of_model.signature_def.items()
        }
        _, start = self.signatures.pop(_START, ({}, {}))
        saver = graph_of_model.saver_def
        variables = {saver.filename_tensor_name: str(folder / "variables" / "variables")}
        assets = {
            asset.tensor_info.name: str(folder / "assets" / asset.filename)
            for asset in graph_of_model.asset_file_def
        }
        self._calls: dict[str, tuple] = {}
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        try:
            with graph.as_default():
                tf.graph_util.import_graph_def(graph_of_model.graph_def, name="")
            self._session.run(saver.restore_op_name, variables)
            for operation in start.values():
                self._session.run(graph.get_operation_by_name(operation), assets)
        except Exception as error:  # TensorFlow raises many kinds for a damaged model
            raise InputError(
                f"--saved_model {folder} can't be loaded ({reason(error)}); export it anew."
            ) from None

    def run(self, signature: str, inputs: dict) -> dict:
        """Outputs of a signature by name.

        Raises:
            ValueError: the model refused the inputs, and why.
        """
        import tensorflow as tf

        try:
            call, names = self._call(signature)
            return call(*(inputs[name] for name in names))
        # The others are of a damaged signature, or of arrays that make no tensor of it.
        except (tf.errors.OpError, LookupError, TypeError, ValueError) as error:
            raise ValueError(reason(error)) from None

    def _call(self, signature: str):
        """What runs a signature, and the names of its inputs in order."""
        if signature not in self._calls:
            inputs, outputs = self.signatures[signature]
            call = self._session.make_callable(outputs, list(inputs.values()))
            self._calls[signature] = call, tuple(inputs)
        return self._calls[signature]
