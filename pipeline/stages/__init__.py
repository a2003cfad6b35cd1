"""What each Triton stage does, free of Triton itself: tensors in, tensors out."""
