"""A deployment in AWS as settings: checked, and priced."""
