"""Where configuration becomes running services."""
