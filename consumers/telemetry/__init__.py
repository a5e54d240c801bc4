"""Telemetry: ``/livez``, ``/readyz`` and Prometheus ``/metrics`` of a ``serve`` process, read from what it keeps."""
