"""Servers on the nodes of a Ray cluster. Ray itself is imported by the bridge and the agents only."""
