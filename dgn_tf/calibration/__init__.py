"""One user's bone lengths and shape, from frames without labels."""
