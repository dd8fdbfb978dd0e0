"""Reads how a project's own CI installs and judges it."""
