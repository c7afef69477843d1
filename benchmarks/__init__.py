"""How fast the embedded default is, side by side with plain Python, bare SQL and the peers: `python -m benchmarks`."""
