"""Benchmarks: this gateway against others in one run, as ratios; `make bench` runs them."""
