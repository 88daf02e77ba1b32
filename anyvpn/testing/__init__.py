"""Memory devices, scripted peers and contract tests, for us and for everyone."""
