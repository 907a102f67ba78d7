"""Records of depth frames: schemas, readers, views of a rig, the targets of a batch."""
