"""The training loop's parts: step, run folder with exact resume, callbacks."""
