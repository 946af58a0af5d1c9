"""What `ray_private.py` relies on; tests/cluster/ proves the rest of it on a running cluster."""

from ray import serve

from deployments.ray_private import pin_version


@serve.deployment
class Some:
    pass


def test_a_version_can_be_pinned_and_the_options_survive() -> None:
    pinned = pin_version(Some.options(num_replicas=2, user_config={"a": 1}), "of-ours")
    assert pinned.version == "of-ours"
    assert pinned.num_replicas == 2
    assert "num_replicas" in pinned._deployment_config.user_configured_option_names
