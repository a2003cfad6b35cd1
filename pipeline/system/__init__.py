"""What the operating system and other libraries need of every process."""
