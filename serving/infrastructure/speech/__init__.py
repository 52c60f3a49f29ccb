"""Adapters that hear and speak: each imports what it needs when it is made, so that none is needed for another."""
