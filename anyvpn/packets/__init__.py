"""The packet path, shared by gateway and client."""
