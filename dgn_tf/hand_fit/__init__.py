"""Fits a hand to evidence: key points, depth pixels, several views, estimated transforms."""
