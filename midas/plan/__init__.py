"""What follows from a configuration: its runs, what each is told, and whether it can be run. Nothing here needs torch."""
