"""Encode frames as MP4 and WebP, and decode images and videos."""
