"""Timeouts that several packages share, in seconds."""

HANG_TIMEOUT_S = 60.0
"""Seconds without a response after which a server, or one of its stages, counts as hung."""
