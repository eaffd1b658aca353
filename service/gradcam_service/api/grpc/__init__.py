"""gRPC, as clients of the Open Inference Protocol, of KServe and of Triton speak it: the same protocol as REST's.

Each call is made of the application in this process at the path of REST which means the same, tensors as they are. So
limits, keys, deadlines, metrics, logs and traces are those of HTTP, and what they say of a call is said of that path.
"""
