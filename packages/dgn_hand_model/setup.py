"""Copies saved_models/dgn of the repository into the package before it is built.

An sdist holds the copy, so that it builds the wheel without the repository.
"""

import pathlib
import shutil

from setuptools import setup

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "saved_models" / "dgn"
COPY = HERE / "dgn_hand_model" / "model"

if SOURCE.is_dir():
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(SOURCE, COPY)
elif not COPY.is_dir():
    raise SystemExit(f"{SOURCE} is not there: build this package inside the repository.")

setup()
