"""The command line of triton-video."""
