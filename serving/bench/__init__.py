"""Measuring the engine: workloads, latency statistics, load over HTTP, and pictures of what happened."""
