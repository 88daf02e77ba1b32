"""Tests of DTLS without sockets."""
