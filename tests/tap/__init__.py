"""Configuration and start-up, and the set-up that these tests share."""
