"""What the weights say: unimodality, classes, spread, with tests."""
