"""The typed configuration of each verb."""
