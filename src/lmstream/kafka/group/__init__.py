"""A consumer that stays in its group: a `Supervisor` replaces a `Member` that is lost, by the rules of `RestartPolicy`.

`Member` is what both client libraries have in common; `AiokafkaMember` and `LibrdkafkaMember` are the two there are.
"""
