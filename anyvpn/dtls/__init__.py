"""DTLS without sockets: records, the resumption handshake and the PSK handshake."""
