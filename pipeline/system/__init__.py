"""Set up processes: paths, file modes, telemetry, and their parents and children."""
