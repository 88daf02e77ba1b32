"""What we give to testers, tested."""
