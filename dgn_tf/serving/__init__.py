"""The exported model: its signatures, the checks of its inputs, and which ops it may hold."""
