"""What goes by on an edge beside its operations: the rest of the channels, extra skip connections."""
