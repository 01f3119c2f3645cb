"""Pins: what exactly is installed, as one file that can be compared with a home and had again in another."""
