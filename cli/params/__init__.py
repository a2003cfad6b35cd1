"""Parameters of the commands: declarations, and values from flags, variables and files."""
