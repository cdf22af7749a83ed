"""The paper's figures, drawn from files."""
