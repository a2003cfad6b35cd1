"""Checkpoint folders: downloaded, checked and read."""
