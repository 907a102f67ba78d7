"""Posed hands over time as animations that other programs open."""
