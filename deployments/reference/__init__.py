"""Generators of the documents that are checked in: OpenAPI, .proto files and tables."""
