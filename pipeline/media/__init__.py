"""Frames to MP4 and WebP, and reference images to pixels."""
