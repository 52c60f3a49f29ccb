"""One file per engine that `benchmarks/peers.py` measures, all behind the protocol of `contender.py`."""
