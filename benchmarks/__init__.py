"""Measurements of speed that hold on any machine: ratios, taken within one run."""
