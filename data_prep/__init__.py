"""Writers of what `dgn_tf` reads: templates, synthetic and NYU records."""
