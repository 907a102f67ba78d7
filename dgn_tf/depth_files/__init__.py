"""Depth frames on disk in the forms that cameras, ROS and data sets write."""

# Of the names of depth files in a folder; what a file is follows from its bytes.
ENDINGS = (".png", ".npy", ".npz", ".tif", ".tiff", ".exr", ".bin", ".msg", ".compresseddepth")
