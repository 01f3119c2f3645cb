"""Finding tools and servers by what they are for: documents, the lexical index, and what its hits say."""
