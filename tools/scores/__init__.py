"""How well each tool really works: a record of every call, by tool and version."""
