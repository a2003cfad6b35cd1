"""Estimate a pipeline's memory from configs and file headers alone.

Neither weights nor torch are loaded.
"""
