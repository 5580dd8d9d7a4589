"""Data augmentation: more, or better, rows out of the same data."""
