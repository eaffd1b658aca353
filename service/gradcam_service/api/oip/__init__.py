"""The Open Inference Protocol (V2): its tensors, and the models that it sees in each of ours. Knows nothing of HTTP.

    tensors    bytes or numbers           ⇄ tensors, every bound checked before anything is allocated
    messages   what a request asks and an answer says, as data
    faces      a model's name             → which of its faces is meant, and what that takes and gives
    reading    a request's tensors        → pictures, targets and options, as the domain takes them
    infer      a request                  → its answer
    models     the models that there are  → metadata, Triton's configuration, repository index and statistics
    rest       a body                     ⇄ a request or an answer: JSON, and the binary tensor extension

https://github.com/kserve/open-inference-protocol, and Triton's extensions,
https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""
