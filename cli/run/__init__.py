"""How a command gets from its parameters to a running model."""
