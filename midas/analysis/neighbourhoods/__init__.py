"""How accurate are the cells near a found one? Read from the benchmark's table after the searches, never for a choice."""
