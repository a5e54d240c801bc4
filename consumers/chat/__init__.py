"""Playing the contact against a running workflow: reading what is typed, publishing it, following what comes of it."""
