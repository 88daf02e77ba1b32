"""Tests of the values and of the state machines."""
