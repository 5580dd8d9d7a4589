"""The run folder on disk: its files, its record, its curve, and the statistics of several runs."""
