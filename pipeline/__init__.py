"""The diffusion pipeline: model families, the stages that Triton runs, and their clients."""
