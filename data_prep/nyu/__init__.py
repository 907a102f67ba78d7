"""What is particular to the NYU Hand Pose data set: labels, rig, centres and frames."""
