"""Writers of what `dgn_tf` reads: templates, synthetic and NYU records."""

from dgn_tf.quiet import quiet_programs

quiet_programs()
