"""Conformance suites and fixtures."""
