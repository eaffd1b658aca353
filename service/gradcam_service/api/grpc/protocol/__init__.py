"""Messages of gRPC, generated from the ``.proto`` files here by ``make protocol``.

Any protobuf of the generator's major version or the next runs them. They register with protobuf under the names that
the protocols give them, as every client's do, so that no process can import these and a client's.
"""
