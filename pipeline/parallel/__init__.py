"""The diffusion transformer on many ranks: unified sequence parallelism, and guidance's two
branches side by side.
"""
