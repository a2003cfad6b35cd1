"""The bundled checkpoint ``shapes`` and the recipe that trained it."""
