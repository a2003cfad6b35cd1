"""The computation of each Triton stage, independent of Triton: tensors in, tensors out."""
