"""Tests of anyvpn.client."""
