"""Speed, as ratios of two things measured side by side in one process: ``make bench``."""
