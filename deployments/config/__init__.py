"""Every key that a user may write: the schemas of `config.yml` and of the gateway, and their checks."""
