"""What are the numbers over seeds, beside published ones? As tables."""
