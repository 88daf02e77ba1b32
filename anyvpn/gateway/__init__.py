"""The gateway: from the TLS handshake to packets in motion."""
