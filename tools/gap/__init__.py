"""What a task needs, and whether what is installed covers it."""
