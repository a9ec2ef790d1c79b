


https://example.comÿ