"""Export a Diffusers checkpoint to a model repository that Triton serves."""
