"""What is measured; each measure gives figures for some rows of the report."""
