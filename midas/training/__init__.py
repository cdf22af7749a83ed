"""What trains? A search, a retraining, a transfer, epoch by epoch."""
