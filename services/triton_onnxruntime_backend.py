"""A Python-based Triton backend that runs `model.onnx` in onnxruntime.

The native start installs it as `backends/onnxruntime/model.py`. A model repository with
`platform: "onnxruntime_onnx"` then works here and, unchanged, in the official image, where that platform is the C++
backend. Runs in Triton's own environment: standard library, numpy and onnxruntime only.
"""

import json
import os

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One loaded version of one model."""

    def initialize(self, args):
        """Opens the version's model.onnx."""
        config = json.loads(args["model_config"])
        name = config.get("default_model_filename") or "model.onnx"
        path = os.path.join(args["model_repository"], args["model_version"], name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [i.name for i in self.session.get_inputs()]
        self.outputs = [o["name"] for o in config["output"]]

    def execute(self, requests):
        """Responds to each request; one that fails gets an error, and its neighbours their results."""
        responses = []
        for request in requests:
            try:
                feed = {n: pb_utils.get_input_tensor_by_name(request, n).as_numpy() for n in self.inputs}
                arrays = self.session.run(self.outputs, feed)
                tensors = [pb_utils.Tensor(n, a) for n, a in zip(self.outputs, arrays, strict=True)]
                responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
            except Exception as error:
                responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))))
        return responses
