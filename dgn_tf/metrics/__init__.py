"""Figures of merit as functions of numpy arrays: no network, no files but the field's text form."""
