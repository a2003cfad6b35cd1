"""How ``models/shapes`` was made: ``python -m models.recipe`` renders, trains and writes it."""
