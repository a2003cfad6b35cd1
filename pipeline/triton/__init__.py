"""What works only inside a Triton process, or speaks to one."""
