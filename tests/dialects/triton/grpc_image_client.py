"""What Triton's example `grpc_image_client` does: ask by the generated stubs alone, messages filled by hand.

Takes the addresses of HTTP and of gRPC, a model and a file of pixels (H, W, 3) of the model's size, as NumPy writes
them.
"""

import json
import sys

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor

_, address, model, file = sys.argv[1:]
stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address))
metadata = stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=model, version=""))
config = stub.ModelConfig(service_pb2.ModelConfigRequest(name=model, version="")).config

(taken,), (given,) = metadata.inputs, metadata.outputs
(configured,), (scored,) = config.input, config.output
assert config.max_batch_size > 0
assert given.datatype == "FP32"
assert scored.name == given.name
assert configured.format == configured.FORMAT_NCHW
_, channels, height, width = taken.shape

pixels = np.load(file)
assert pixels.shape == (height, width, channels)
scaled = (pixels.astype(np.float32) / 127.5 - 1) * 2  # (x / 255 - 0.5) / 0.25, the model's own
batch = np.stack([scaled.transpose(2, 0, 1)] * 2)

request = service_pb2.ModelInferRequest(model_name=model, model_version="")
request.inputs.add(name=taken.name, datatype=taken.datatype, shape=batch.shape)
wanted = request.outputs.add(name=given.name)
wanted.parameters["classification"].int64_param = 3
request.raw_input_contents.extend([batch.tobytes()])
answer = stub.ModelInfer(request)
(ranked,) = (deserialize_bytes_tensor(raw) for raw in answer.raw_output_contents)
rows = ranked.reshape(list(answer.outputs[0].shape))
print(json.dumps([[element.decode().split(":") for element in row] for row in rows]))
