"""Files of policies: reading them without running code from them, checking what they are given, ONNX."""
