"""The version of the package, which fitted models carry."""

__version__ = "0.1.0.dev0"
