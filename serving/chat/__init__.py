"""A chat in the terminal: a client like any other, of a server that runs elsewhere or that it starts itself."""
