"""Making a server live: installers, processes, links to children, the life cycle and its supervisor."""
