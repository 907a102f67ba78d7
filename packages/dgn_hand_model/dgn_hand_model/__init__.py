"""The trained hand model of dgn_tf: `FOLDER` is its model folder."""

import pathlib

FOLDER = pathlib.Path(__file__).parent / "model"
