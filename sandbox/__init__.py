"""Running untrusted code: what this machine offers to confine it. Imports nothing of ours."""
