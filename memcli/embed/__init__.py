"""Embedding models: their files (`models`), the ONNX embedder (`onnx`) and the making of a static model (`distill`)."""
