"""What was approved of each server's tools, and what is held back because it is other than that."""
