"""What follows from a configuration? Its cells, what each step is told, whether it can be run. Nothing here needs torch."""
