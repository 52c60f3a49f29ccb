"""Serves any registry version over HTTP with continuous batching. Dependencies point inwards."""
