"""What is a score worth that needs no training? Ranks against accuracies, and picks against searches: table S3."""
