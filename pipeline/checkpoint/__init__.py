"""Download, check and read checkpoint folders."""
