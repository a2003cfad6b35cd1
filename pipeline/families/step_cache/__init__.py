"""The step cache: which steps of a schedule reuse the result of an earlier one.

Tables of published models are JSON files in this folder, named in `tables`.
"""
