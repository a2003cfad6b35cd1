"""What runs a graph: ONNX Runtime or TensorRT."""
