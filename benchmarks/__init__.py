"""Figures, as ratios within one run, on real supervisords: ``make bench``."""
