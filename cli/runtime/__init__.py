"""The runtimes of a Triton that a command starts: embedded, or in a container."""
