"""What the command line writes: files, links, progress and tables."""
