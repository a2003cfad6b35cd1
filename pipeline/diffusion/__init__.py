"""The denoising loop and what it is made of."""
