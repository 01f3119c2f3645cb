"""`toolscore top`: what is going on, live."""
