"""A supervised member of a consumer group, by either client library."""
