"""What a desk looks like and how fairly it shares its work, told from the assignments log alone."""
