"""What every client of AWS here shares: bounded answers, the clock, questions before a start."""
