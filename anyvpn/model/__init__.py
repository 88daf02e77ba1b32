"""What we talk about and how it may change: frozen values and pure state machines."""
