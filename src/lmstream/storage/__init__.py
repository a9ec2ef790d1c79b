"""Files and objects: durable writes, readers of landed lines, the journal of crashes."""
