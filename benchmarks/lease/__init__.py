"""What a GPU that is lent for minutes can settle, by one command: `benchmarks.lease.__main__`."""
