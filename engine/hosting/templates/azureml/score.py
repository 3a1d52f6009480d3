"""Answers the requests of an Azure ML online endpoint with the deployment's model, a bundle."""

from fastspan.hosting.azure_ml import init, run

__all__ = ["init", "run"]
