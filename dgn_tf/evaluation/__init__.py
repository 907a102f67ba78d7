"""Evaluation in parts that do not know each other: predictions, errors of frames, report."""
