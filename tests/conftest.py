"""What all tests share: hypothesis decides the same cases in every run, and brokers start when a test asks."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.brokers.fixtures"]

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,  # no test depends on how fast the machine is
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")
