"""The recipe of ``models/shapes``: ``python -m models.recipe`` renders clips, trains on them and
writes the checkpoint.
"""
