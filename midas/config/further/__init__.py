"""What can be asked beyond the paper? Groups of keys of what stands beside its tables; each is off unless it is asked for."""
