package org.apache.hadoop.hive.serde2;

/** Hive 3 has no such type any more; the oldest SerDe is one. */
public interface SerDe extends Deserializer, Serializer {}
