"""Sessions that run a graph with ONNX Runtime or TensorRT."""
