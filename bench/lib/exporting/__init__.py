"""The insides of `bench/export.py`."""
