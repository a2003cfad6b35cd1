"""What a pipeline will need in memory, told from configs and file headers alone: nothing is
loaded, nor torch.
"""
