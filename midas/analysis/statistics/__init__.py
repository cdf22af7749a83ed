"""What the weights say: unimodality, classes, spread, with tests; and what a few seeds say of any number."""
