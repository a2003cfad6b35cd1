"""The interface of the Triton ensemble: its tensors and stages."""
