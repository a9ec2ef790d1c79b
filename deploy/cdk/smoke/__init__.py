"""A whole deployment in an account of yours, for an hour: does AWS do what its pages say, and what did it cost."""
