"""Parameters of the commands: their declarations, and their values from flags, files and
variables.
"""
