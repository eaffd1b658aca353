"""The fields of the messages that this client sends and reads, with their numbers and types."""

import json

from tritonclient.grpc import model_config_pb2, service_pb2

messages = {**service_pb2.DESCRIPTOR.message_types_by_name, **model_config_pb2.DESCRIPTOR.message_types_by_name}


def fields(message, path):
    for field in message.fields:
        yield f"{path}.{field.name}", [field.number, field.type]
    for inner in message.nested_types:
        yield from fields(inner, f"{path}.{inner.name}")


print(json.dumps({name: value for path, message in messages.items() for name, value in fields(message, path)}))
