"""Run the diffusion transformer on several ranks, with unified sequence parallelism (USP) and CFG
parallelism.
"""
