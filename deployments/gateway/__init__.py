"""The gateway: the HTTP application, the gRPC service, and the Serve deployments that run them."""
