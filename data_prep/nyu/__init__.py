"""What is particular to the NYU Hand Pose data set: labels, frames, the rig that labels tell."""
