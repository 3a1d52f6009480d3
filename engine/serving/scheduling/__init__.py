"""When a request runs: admission, its limits, the queue before the model, and its way to an answer."""
