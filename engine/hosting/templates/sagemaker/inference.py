"""Answers the requests of a SageMaker endpoint or batch transform with the bundle beside this folder."""

from fastspan.hosting.sagemaker import input_fn, model_fn, output_fn, predict_fn

__all__ = ["input_fn", "model_fn", "output_fn", "predict_fn"]
