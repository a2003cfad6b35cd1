"""The diffusion pipeline: model specs, the stages that Triton runs, and the client that calls
them.
"""
