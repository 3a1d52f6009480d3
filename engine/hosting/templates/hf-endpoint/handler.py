"""Answers the requests of an Inference Endpoint with the bundle in this repository."""

from fastspan.hosting.hugging_face_endpoint import EndpointHandler

__all__ = ["EndpointHandler"]
