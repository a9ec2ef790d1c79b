"""Kafka, for sources, dead letters and verbs. Nothing is imported here: each module needs only the client that it uses,
Lambda ships `lambda_events` alone, and settings are read where no client is installed.

How brokers are reached:

    settings          KafkaConnection: brokers, TLS, SASL; Settings: the source's, which adds topics, group and times
    tls               Tls(connection): what makes a client known, renewed while it runs; certificates, sasl: its parts
    connection        connect, connected: a consumer of aiokafka; stop: any of its clients
    connection_probe  why a broker does not let us in, asked before a client starts; sasl_probe: the same for SASL

What is done there:

    group             a consumer that stays in its group, by aiokafka or by librdkafka (`group.supervisor.Supervisor`)
    range_reader      read_range, read_topic: fixed offsets, without a group
    producer          producing, started: acknowledged by all in-sync replicas
    topics            Wanted: names and patterns; TopicWatch: topics that come and go
    lag, log_bounds   how far a group is behind (lmstream.behind), asked from the brokers; where the log begins
    admin             questions to the brokers; provisioning, acls: topics and access, changed by verbs
    skip              move a commit past what cannot be read
    rereading         dead letters whose headers a client could not give
    lambda_events     events of Lambda as records

Modules that begin with an underscore are for this package alone.
"""
