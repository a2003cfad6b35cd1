"""Jobs: a job is its row in the table ``videos``."""
