"""Cannot even be imported."""

raise RuntimeError("out of order")
