"""Timeouts that several packages share, in seconds."""

HANG_TIMEOUT_S = 60.0
"""How long a server, or one of its stages, may leave questions unanswered before it counts as
hung.
"""
