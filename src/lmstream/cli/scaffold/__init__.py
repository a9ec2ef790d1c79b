"""What `lmstream init` is made of: the questions, what brokers and stream say, and the file."""
