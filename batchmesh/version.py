"""The version of batchmesh, in the one place that the build, the services and the reports read."""

VERSION = "0.1.0"
