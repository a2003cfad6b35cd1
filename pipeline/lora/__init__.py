"""LoRA: reads files in the layouts of diffusers, PEFT and Kohya, and applies them to a
transformer.

Only `weights`, `layers` and `loaded` import torch.
"""
