"""The form of the network that an accelerator's compiler takes: no loops, geometry apart."""

import collections
import contextlib

import tensorflow as tf

# What has to stay float32 where the networks need not: millimetres at arm's length have no place in
# a half, nor squares of pixel spacings, nor the similarity fit.
GEOMETRY = ("pixel_inputs", "canonical_view", "extend", "decode")


@contextlib.contextmanager
def for_accelerator(network, geometry_apart: bool, outputs=None):
    """While it lasts `network` is traced without loops over the pixels.

    Args:
        network: built `DualGridNet`.
        geometry_apart: its `GEOMETRY` becomes functions that are not inlined. TF-TRT converts what
            stands in the main graph; what such functions hold stays TensorFlow's, in float32.
        outputs: names of the outputs to compute then; None: all. Grappler would rewrite a function
            of which an output is not used.
    """
    chunk = network.extension.chunk
    network.extension.chunk = 0
    names = GEOMETRY if geometry_apart else ()
    try:
        for name in names:  # past Keras, which would track the functions
            kept = outputs if name == "decode" else None
            object.__setattr__(network, name, _function(getattr(network, name), kept))
        yield network
    finally:
        network.extension.chunk = chunk
        for name in names:
            vars(network).pop(name, None)


def _function(method, kept):
    def run(*args):
        results = method(*args)
        if kept is None:
            return results
        return {name: value for name, value in results.items() if name in kept}

    return tf.function(run, autograph=False, experimental_attributes={"_noinline": True})


def ops_on_path(function, output: str) -> collections.Counter:
    """Op types, with counts, that `output` of a concrete function needs, without constants."""
    nodes = {node.name: node for node in function.graph.as_graph_def().node}
    wanted, seen = [function.structured_outputs[output].op.name], set()
    while wanted:
        name = wanted.pop()
        if name not in seen:
            seen.add(name)
            wanted += [source.split(":")[0] for source in nodes[name].input if source[0] != "^"]
    return collections.Counter(
        nodes[name].op for name in seen if nodes[name].op not in ("Const", "Placeholder")
    )
