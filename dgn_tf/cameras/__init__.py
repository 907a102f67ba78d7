"""Depth cameras: what is known of sensors, calibration files of several programs, distortion."""
