"""Models without memory for their weights, and those weights in a checkpoint's safetensors files.

Importing this does not import torch.
"""

from export.weights.models import empty_model, mapped_model
from export.weights.needed import bytes_needed
from export.weights.stored import StoredTensor, stored_tensors

__all__ = ["StoredTensor", "bytes_needed", "empty_model", "mapped_model", "stored_tensors"]
