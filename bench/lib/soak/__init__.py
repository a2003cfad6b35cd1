"""A long run of a whole server under clients of every kind, and what is left of it afterwards."""
