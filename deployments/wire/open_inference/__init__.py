"""The Open Inference Protocol: its types, tensors and errors, and the handlers of its routes and rpcs."""
