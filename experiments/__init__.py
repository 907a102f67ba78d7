from dgn_tf.quiet import quiet_programs

quiet_programs()
