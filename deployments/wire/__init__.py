"""Codecs that protocols share, and a package per protocol with its types and request handlers."""
