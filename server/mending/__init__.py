"""What `toolscore doctor` finds in a home, and how it mends that."""
