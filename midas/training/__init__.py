"""What trains: the epochs of a search, of a retraining and of a transfer."""
