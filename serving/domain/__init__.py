"""What serving is about, in the standard library alone: requests, sequences, blocks, plans, policies, events."""
