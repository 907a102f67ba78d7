"""Pixel shuffling (Sec. 3.6): trades resolution for channels and back."""

import keras
import tensorflow as tf


class _Shuffle(keras.layers.Layer):
    def __init__(self, block_size: int = 2, **kwargs):
        super().__init__(**{**kwargs, "autocast": False})  # it moves numbers, of any type
        self.block_size = block_size

    def get_config(self):
        return {**super().get_config(), "block_size": self.block_size}


@keras.utils.register_keras_serializable("dgn_tf")
class SpaceToDepth(_Shuffle):
    """[B, H, W, C] -> [B, H/block_size, W/block_size, C*block_size^2]."""

    def call(self, inputs):
        return tf.nn.space_to_depth(inputs, self.block_size)


@keras.utils.register_keras_serializable("dgn_tf")
class DepthToSpace(_Shuffle):
    """[B, H, W, C] -> [B, H*block_size, W*block_size, C/block_size^2]."""

    def call(self, inputs):
        return tf.nn.depth_to_space(inputs, self.block_size)
