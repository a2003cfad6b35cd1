"""The processes that hold the device: one a rank, started and watched by the stage ``dit``,
which has none itself.
"""
