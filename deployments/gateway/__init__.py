"""What answers callers: the web application, the gRPC service, and the deployments that run them."""
