"""The python-executor on the nodes of a cluster: one executor a node, and the front that spreads calls over them."""
