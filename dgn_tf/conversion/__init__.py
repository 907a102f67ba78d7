"""Other forms of a trained network: folded and small weights, TF-TRT engines, LiteRT files."""
