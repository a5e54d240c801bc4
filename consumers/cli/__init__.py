"""The command line: words, options, exit codes. The work is done elsewhere."""
