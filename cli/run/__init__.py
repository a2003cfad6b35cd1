"""From the parameters of a command to a running model."""
