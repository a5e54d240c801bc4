"""What the demo brings along beside the roles themselves."""
