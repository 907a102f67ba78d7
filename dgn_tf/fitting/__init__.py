"""Fits the template to known key points: in closed form, then all parameters at once."""
