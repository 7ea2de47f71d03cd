"""Other splits into pipeline, tensor and data ranks, predicted from a recorded run."""
