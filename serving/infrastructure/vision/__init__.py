"""Models that see: which ones, what their vision tower is given, and what it makes of that."""
