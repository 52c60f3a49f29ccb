"""What a run will take, before it is begun, and what it took, beside it."""
