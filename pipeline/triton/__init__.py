"""Code that runs only inside a Triton process, or that communicates with one."""
