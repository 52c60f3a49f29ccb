"""From what a request shows to decoded pictures and clips."""
