"""Everything that runs: the lane, its roles, the audit, and the command line."""
