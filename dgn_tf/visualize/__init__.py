"""Pictures of depth, correspondences and meshes, made with numpy and Pillow alone."""
