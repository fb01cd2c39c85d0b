"""The Open Inference Protocol, version 2 (KServe's, Triton's): models that its clients call by HTTP and by gRPC.

::

    import numpy as np
    import serve


    @serve.deployment
    class Doubler(serve.oip.Model):
        inputs = [serve.oip.TensorSpec("x", "FP32", [-1, 3])]
        outputs = [serve.oip.TensorSpec("y", "FP32", [-1, 3])]

        def predict(self, x: np.ndarray) -> dict[str, np.ndarray]:
            return {"y": 2 * x}


    serve.run(Doubler.bind())  # POST /v2/models/Doubler/infer
"""

from serve.oip.errors import InferenceError
from serve.oip.model import Model
from serve.oip.models import Models
from serve.oip.repository import Repository
from serve.oip.tensors import InferRequest, InferResponse, RequestedOutput, Tensor, TensorSpec

__all__ = [
    "InferRequest",
    "InferResponse",
    "InferenceError",
    "Model",
    "Models",
    "Repository",
    "RequestedOutput",
    "Tensor",
    "TensorSpec",
]
