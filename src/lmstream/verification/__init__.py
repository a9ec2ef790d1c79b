"""What should have landed against what did."""
