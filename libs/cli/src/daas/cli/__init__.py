"""The daas command."""
