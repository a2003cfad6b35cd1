"""The denoising loop and its parts."""
