"""Acceptance on a GPU: is what runs there right, and how long does it take?"""
