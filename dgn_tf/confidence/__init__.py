"""How sure the model is of each vertex and key point."""
