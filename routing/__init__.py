"""Pure decisions: what a conversation does next, and who gets it.

Nothing in here reads a clock, a file or a socket, and nothing imports ``events`` or ``consumers``.
"""
