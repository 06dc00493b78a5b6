"""What randomized smoothing promises, study by study."""
