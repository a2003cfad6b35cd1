"""Where Triton runs when the command line starts it itself."""
