"""Synthetic depth frames: posed hands, scenes and what sensors see of them."""
